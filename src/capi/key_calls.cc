// Keys through the C ABI.
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

#include "throttl/secret.h"

#include "src/capi/capi_call.h"
#include "src/capi/documents.h"

namespace throttl::capi {
namespace {

// How often a change that lost a race with another one is read and tried again.
constexpr int kConflictTriesMax = 16;

absl::StatusOr<std::string> ReadId(const ManagementCall& call) {
  std::string id;
  call.members.String("id", id);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  return id;
}

// {"key": ..., "secret": "..."}: a secret has no character that JSON would escape.
absl::StatusOr<std::string> TextOfIssued(absl::StatusOr<IssuedKey> issued) {
  if (!issued.ok()) return issued.status();
  const std::string key = TextOfJson(ToJson(issued->key));
  const std::string_view secret = issued->secret.Reveal();
  return absl::StrCat("{\"key\":", key, ",\"secret\":\"",
                      absl::string_view(secret.data(), secret.size()), "\"}");
}

absl::StatusOr<std::string> Create(const ManagementCall& call) {
  Key key;
  ReadKeySettings(call.members, key);
  call.members.String("id", key.id);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  return TextOfIssued(call.engine.CreateKey(key, call.caller));
}

absl::Status ReadImported(const Json& object, const std::string& path, ImportedKey& imported) {
  ObjectReader reader(object, path);
  ReadKeySettings(reader, imported.key);
  reader.String("id", imported.key.id);
  std::string sha256;
  reader.String("sha256", sha256);
  reader.Integer("used", imported.used);
  absl::Status status = reader.Finish();
  if (!status.ok()) return status;
  const absl::StatusOr<Sha256Digest> digest = ParseSha256Digest(sha256);
  if (!digest.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(path, "sha256: ", digest.status().message()));
  }
  imported.digest = *digest;
  return absl::OkStatus();
}

absl::StatusOr<std::string> Import(const ManagementCall& call) {
  std::vector<ImportedKey> keys;
  call.members.Objects("keys", [&keys](const Json& object, const std::string& path) {
    keys.emplace_back();
    return ReadImported(object, path, keys.back());
  });
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  const absl::StatusOr<ImportReport> report = call.engine.ImportKeys(keys, call.caller);
  if (!report.ok()) return report.status();
  return TextOfJson(ToJson(*report));
}

absl::StatusOr<std::string> Rotate(const ManagementCall& call) {
  std::string id;
  RotateOptions options;
  call.members.String("id", id);
  call.members.Millis("overlap_ms", absl::ZeroDuration(), options.overlap);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  return TextOfIssued(call.engine.RotateKey(id, options, call.caller));
}

struct KeyChange {
  std::string id = {};
  std::optional<std::int64_t> version = std::nullopt;
  CarryOver carry_over = CarryOver::kDifference;
  Json settings = Json::object();  // a merge patch
};

absl::StatusOr<KeyChange> ReadChange(const ManagementCall& call) {
  KeyChange change;
  call.members.String("id", change.id);
  call.members.Integer("version", change.version);
  ReadCarryOver(call.members, change.carry_over);
  // What is no setting, or of another type, is found before anything is merged.
  Key unused;
  ReadKeySettings(call.members, unused);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  change.settings = call.members.object();
  for (const char* const name : {"id", "version", "carry_over", "caller"}) {
    change.settings.erase(name);
  }
  return change;
}

absl::StatusOr<Key> TryUpdate(const ManagementCall& call, const KeyChange& change) {
  absl::StatusOr<Key> stored = call.engine.GetKey(change.id, call.caller);
  if (!stored.ok()) return stored.status();
  Json merged = SettingsToJson(*stored);
  merged.merge_patch(change.settings);
  Key key;
  ObjectReader reader(merged, "");
  ReadKeySettings(reader, key);
  const absl::Status status = reader.Finish();
  if (!status.ok()) return status;
  key.id = change.id;
  key.version = change.version.value_or(stored->version);
  return call.engine.UpdateKey(key, call.caller, change.carry_over);
}

absl::StatusOr<std::string> Update(const ManagementCall& call) {
  const absl::StatusOr<KeyChange> change = ReadChange(call);
  if (!change.ok()) return change.status();
  for (int tries = 1;; ++tries) {
    const absl::StatusOr<Key> updated = TryUpdate(call, *change);
    if (updated.ok()) return TextOfJson(ToJson(*updated));
    // With a version of its own the caller wants to hear of another change.
    const bool again = absl::IsAborted(updated.status()) && !change->version.has_value();
    if (!again || tries == kConflictTriesMax) return updated.status();
  }
}

absl::StatusOr<std::string> Revoke(const ManagementCall& call) {
  const absl::StatusOr<std::string> id = ReadId(call);
  if (!id.ok()) return id.status();
  const absl::Status status = call.engine.RevokeKey(*id, call.caller);
  if (!status.ok()) return status;
  return "null";
}

absl::StatusOr<std::string> Get(const ManagementCall& call) {
  const absl::StatusOr<std::string> id = ReadId(call);
  if (!id.ok()) return id.status();
  const absl::StatusOr<Key> key = call.engine.GetKey(*id, call.caller);
  if (!key.ok()) return key.status();
  return TextOfJson(ToJson(*key));
}

absl::StatusOr<std::string> List(const ManagementCall& call) {
  KeyQuery query;
  ReadKeyQuery(call.members, query);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  const absl::StatusOr<Page<Key>> page = call.engine.ListKeys(query, call.caller);
  if (!page.ok()) return page.status();
  Json items = Json::array();
  for (const Key& key : page->items) items.push_back(ToJson(key));
  return TextOfJson({{"items", std::move(items)}, {"next_cursor", page->next_cursor}});
}

absl::StatusOr<std::string> Explain(const ManagementCall& call) {
  std::string id;
  std::string method;
  std::string endpoint;
  std::string address;
  std::string scope;
  Request request;
  call.members.String("id", id);
  call.members.Integer("cost", request.cost);
  call.members.String("method", method);
  call.members.String("endpoint", endpoint);
  call.members.String("address", address);
  call.members.String("scope", scope);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  request.method = method;
  request.endpoint = endpoint;
  request.address = address;
  request.scope = scope;
  const absl::StatusOr<Explanation> explanation = call.engine.Explain(id, request, call.caller);
  if (!explanation.ok()) return explanation.status();
  return TextOfJson(ToJson(*explanation));
}

}  // namespace
}  // namespace throttl::capi

extern "C" {

THROTTL_DEFINE_CALL(throttl_key_create, Create)
THROTTL_DEFINE_CALL(throttl_key_import, Import)
THROTTL_DEFINE_CALL(throttl_key_rotate, Rotate)
THROTTL_DEFINE_CALL(throttl_key_update, Update)
THROTTL_DEFINE_CALL(throttl_key_revoke, Revoke)
THROTTL_DEFINE_CALL(throttl_key_get, Get)
THROTTL_DEFINE_CALL(throttl_key_list, List)
THROTTL_DEFINE_CALL(throttl_key_explain, Explain)

}  // extern "C"
