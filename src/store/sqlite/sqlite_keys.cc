#include <algorithm>
#include <charconv>
#include <cstring>

#include "absl/strings/str_cat.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"
#include "src/store/sqlite/sqlite_record_parts.h"
#include "src/store/sqlite/sqlite_records.h"

namespace throttl::internal {
namespace {

// The columns of api_key that ReadKeyRow reads, in its order.
#define THROTTL_KEY_COLUMNS                                                                \
  "id, version, owner_id, plan_id, name, enabled, expires_at, quota_limit, quota_period, " \
  "quota_anchor_day, quota_time_zone, quota_scope, quota_soft_percent, metadata, "         \
  "secret_prefix, created_at, revoked_at, last_used_at, detector_state, text_count, "      \
  "rate_limit_count, checksum"

enum class TextKind : std::int32_t { kScope = 1, kAddress = 2 };

// A row of api_key, before its lists and secrets are read.
struct KeyRow {
  KeyRecord record = {};
  std::int64_t text_count = 0;
  std::int64_t rate_limit_count = 0;
  std::int64_t checksum = 0;
};

KeyRow ReadKeyRow(const SqliteStatement& read) {
  KeyRow row;
  row.record.key = {.owner_id = read.Text(2),
                    .plan_id = read.Text(3),
                    .name = read.Text(4),
                    .enabled = read.Int(5) != 0,
                    .expires_at = FromMillis(read.OptionalInt(6)),
                    .quota = ReadQuota(read, 7),
                    .metadata = read.Text(13),
                    .secret_prefix = read.Text(14),
                    .id = read.Text(0),
                    .created_at = absl::FromUnixMillis(read.Int(15)),
                    .revoked_at = FromMillis(read.OptionalInt(16)),
                    .last_used_at = FromMillis(read.OptionalInt(17)),
                    .version = read.Int(1)};
  row.record.detector_state = std::string(read.Blob(18));
  row.text_count = read.Int(19);
  row.rate_limit_count = read.Int(20);
  row.checksum = read.Int(21);
  return row;
}

absl::Status ReadSecrets(SqliteConnection& db, KeyRecord& record) {
  SqliteStatement read(db,
                       "SELECT locator, last4, created_at, expires_at, digest, pepper_version "
                       "FROM key_secret WHERE key_id = ? ORDER BY position");
  read.Bind(record.key.id);
  while (read.Step()) {
    SecretRecord secret{.info = {.locator = read.Text(0),
                                 .last4 = read.Text(1),
                                 .created_at = absl::FromUnixMillis(read.Int(2)),
                                 .expires_at = FromMillis(read.OptionalInt(3))},
                        .pepper_version = read.Int32(5)};
    const std::string_view digest = read.Blob(4);
    if (digest.size() == secret.digest.size()) {
      std::memcpy(secret.digest.data(), digest.data(), digest.size());
    }
    record.secrets.push_back(std::move(secret));
  }
  return read.status();
}

absl::Status ReadTexts(SqliteConnection& db, Key& key) {
  SqliteStatement read(db,
                       "SELECT kind, value FROM key_text WHERE key_id = ? ORDER BY kind, position");
  read.Bind(key.id);
  while (read.Step()) {
    std::vector<std::string>& texts =
        read.Int(0) == static_cast<std::int64_t>(TextKind::kScope) ? key.scopes : key.addresses;
    texts.push_back(read.Text(1));
  }
  return read.status();
}

// Reads what stands in other tables, and checks the whole.
absl::StatusOr<KeyRecord> Complete(SqliteConnection& db, KeyRow row) {
  Key& key = row.record.key;
  THROTTL_RETURN_IF_ERROR(ReadSecrets(db, row.record));
  if (row.text_count != 0) THROTTL_RETURN_IF_ERROR(ReadTexts(db, key));
  if (row.rate_limit_count != 0) {
    THROTTL_ASSIGN_OR_RETURN(key.rate_limits, ReadRateLimits(db, RateLimitsOf::kKey, key.id));
  }
  if (KeyChecksum(row.record) != row.checksum) {
    return absl::DataLossError(
        absl::StrCat("key \"", key.id, "\" does not match its checksum in the database"));
  }
  return std::move(row.record);
}

absl::StatusOr<std::optional<KeyRecord>> ReadOne(SqliteConnection& db, SqliteStatement& read) {
  if (!read.Step()) {
    THROTTL_RETURN_IF_ERROR(read.status());
    return std::nullopt;
  }
  THROTTL_ASSIGN_OR_RETURN(KeyRecord record, Complete(db, ReadKeyRow(read)));
  return record;
}

// Whether the key has the secret by which it was found: a damaged index leads elsewhere.
bool HasLocator(const KeyRecord& record, std::string_view locator) {
  return std::any_of(record.secrets.begin(), record.secrets.end(),
                     [=](const SecretRecord& secret) { return secret.info.locator == locator; });
}

bool Matches(const Key& key, const KeyQuery& query) {
  return (query.owner_id.empty() || key.owner_id == query.owner_id) &&
         (query.plan_id.empty() || key.plan_id == query.plan_id) &&
         (query.include_revoked || !key.revoked_at.has_value());
}

// The place in the list after which a page starts: "<created_at in ms>:<id>".
struct Cursor {
  std::int64_t created_at_ms = INT64_MIN;
  std::string id = {};
};

absl::StatusOr<Cursor> ParseCursor(const std::string& text) {
  Cursor cursor;
  if (text.empty()) return cursor;
  const std::size_t colon = text.find(':');
  const char* end = text.data() + (colon == std::string::npos ? 0 : colon);
  const auto result = std::from_chars(text.data(), end, cursor.created_at_ms);
  if (colon == std::string::npos || result.ec != std::errc() || result.ptr != end) {
    return absl::InvalidArgumentError(
        "cursor is not a Page::next_cursor: it has no time and id in it");
  }
  cursor.id = text.substr(colon + 1);
  return cursor;
}

// One statement for each index that can serve the list.
const char* ListSql(const KeyQuery& query) {
#define THROTTL_LIST_TAIL                                           \
  " AND (created_at, id) > (?2, ?3) AND (?4 = '' OR plan_id = ?4) " \
  "AND (?5 = 1 OR revoked_at IS NULL) ORDER BY created_at, id LIMIT ?6"
  if (!query.owner_id.empty()) {
    return "SELECT " THROTTL_KEY_COLUMNS
           " FROM api_key INDEXED BY api_key_by_owner WHERE owner_id = ?1" THROTTL_LIST_TAIL;
  }
  if (!query.plan_id.empty()) {
    return "SELECT " THROTTL_KEY_COLUMNS
           " FROM api_key INDEXED BY api_key_by_plan WHERE plan_id = ?4 AND ?1 = ''"
           " AND (created_at, id) > (?2, ?3) AND (?5 = 1 OR revoked_at IS NULL)"
           " ORDER BY created_at, id LIMIT ?6";
  }
  return "SELECT " THROTTL_KEY_COLUMNS
         " FROM api_key INDEXED BY api_key_by_age WHERE ?1 = ''" THROTTL_LIST_TAIL;
#undef THROTTL_LIST_TAIL
}

absl::StatusOr<Page<KeyRecord>> ListByLocator(SqliteConnection& db, const KeyQuery& query) {
  Page<KeyRecord> page;
  THROTTL_ASSIGN_OR_RETURN(std::optional<KeyRecord> found, SqliteFindKey(db, query.locator));
  if (found.has_value() && query.cursor.empty() && Matches(found->key, query)) {
    page.items.push_back(*std::move(found));
  }
  return page;
}

// version, owner_id .. checksum, then id, in the order of both statements of WriteRow.
void BindKey(SqliteStatement& write, const KeyRecord& record) {
  const Key& key = record.key;
  write.Bind(key.version)
      .Bind(key.owner_id)
      .Bind(key.plan_id)
      .Bind(key.name)
      .Bind(std::int64_t{key.enabled})
      .Bind(ToMillis(key.expires_at));
  BindQuota(write, key.quota);
  write.Bind(key.metadata)
      .Bind(key.secret_prefix)
      .Bind(absl::ToUnixMillis(key.created_at))
      .Bind(ToMillis(key.revoked_at))
      .Bind(static_cast<std::int64_t>(key.scopes.size() + key.addresses.size()))
      .Bind(static_cast<std::int64_t>(key.rate_limits.size()))
      .Bind(KeyChecksum(record))
      .Bind(key.id);
}

absl::Status WriteRow(SqliteConnection& db, const KeyRecord& record) {
  const Key& key = record.key;
  if (key.version == 1) {
    SqliteStatement write(
        db,
        "INSERT INTO api_key(version, owner_id, plan_id, name, enabled, expires_at, quota_limit, "
        "quota_period, quota_anchor_day, quota_time_zone, quota_scope, quota_soft_percent, "
        "metadata, "
        "secret_prefix, created_at, revoked_at, text_count, rate_limit_count, checksum, id) "
        "VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT(id) DO NOTHING");
    BindKey(write, record);
    THROTTL_RETURN_IF_ERROR(write.Finish());
    if (db.changes() != 0) return absl::OkStatus();
    return absl::AlreadyExistsError(absl::StrCat("a key has the id \"", key.id, "\" already"));
  }
  SqliteStatement write(
      db,
      "UPDATE api_key SET version = ?1, owner_id = ?2, plan_id = ?3, name = ?4, enabled = ?5, "
      "expires_at = ?6, quota_limit = ?7, quota_period = ?8, quota_anchor_day = ?9, "
      "quota_time_zone = ?10, quota_scope = ?11, quota_soft_percent = ?12, metadata = ?13, "
      "secret_prefix = ?14, created_at = ?15, revoked_at = ?16, text_count = ?17, "
      "rate_limit_count = ?18, checksum = ?19 WHERE id = ?20 AND version = ?1 - 1");
  BindKey(write, record);
  THROTTL_RETURN_IF_ERROR(write.Finish());
  if (db.changes() != 0) return absl::OkStatus();
  return absl::AbortedError(
      absl::StrCat("the stored version of key \"", key.id, "\" is not ", key.version - 1));
}

absl::Status EraseSecrets(SqliteConnection& db, const std::string& key_id) {
  SqliteStatement erase(db, "DELETE FROM key_secret WHERE key_id = ?");
  return erase.Bind(key_id).Finish();
}

absl::Status WriteSecrets(SqliteConnection& db, const KeyRecord& record) {
  std::int64_t position = 0;
  for (const SecretRecord& secret : record.secrets) {
    SqliteStatement write(db,
                          "INSERT INTO key_secret(locator, key_id, position, last4, created_at, "
                          "expires_at, digest, pepper_version) VALUES(?, ?, ?, ?, ?, ?, ?, ?) "
                          "ON CONFLICT(locator) DO NOTHING");
    write.Bind(secret.info.locator)
        .Bind(record.key.id)
        .Bind(position++)
        .Bind(secret.info.last4)
        .Bind(absl::ToUnixMillis(secret.info.created_at))
        .Bind(ToMillis(secret.info.expires_at))
        .BindBlob(secret.digest)
        .Bind(secret.pepper_version);
    THROTTL_RETURN_IF_ERROR(write.Finish());
    if (db.changes() == 0) {
      return absl::AlreadyExistsError(
          absl::StrCat("another key has the locator \"", secret.info.locator, "\""));
    }
  }
  return absl::OkStatus();
}

absl::Status WriteTexts(SqliteConnection& db, const Key& key, TextKind kind,
                        const std::vector<std::string>& texts) {
  std::int64_t position = 0;
  for (const std::string& text : texts) {
    SqliteStatement write(db, "INSERT INTO key_text VALUES(?, ?, ?, ?)");
    write.Bind(key.id).Bind(static_cast<std::int32_t>(kind)).Bind(position++).Bind(text);
    THROTTL_RETURN_IF_ERROR(write.Finish());
  }
  return absl::OkStatus();
}

absl::Status WriteParts(SqliteConnection& db, const KeyRecord& record) {
  const Key& key = record.key;
  THROTTL_RETURN_IF_ERROR(WriteSecrets(db, record));
  {
    SqliteStatement erase(db, "DELETE FROM key_text WHERE key_id = ?");
    THROTTL_RETURN_IF_ERROR(erase.Bind(key.id).Finish());
  }
  THROTTL_RETURN_IF_ERROR(WriteTexts(db, key, TextKind::kScope, key.scopes));
  THROTTL_RETURN_IF_ERROR(WriteTexts(db, key, TextKind::kAddress, key.addresses));
  return WriteRateLimits(db, RateLimitsOf::kKey, key.id, key.rate_limits);
}

}  // namespace

absl::StatusOr<std::optional<KeyRecord>> SqliteReadKey(SqliteConnection& db, std::string_view id) {
  SqliteStatement read(db, "SELECT " THROTTL_KEY_COLUMNS " FROM api_key WHERE id = ?");
  read.Bind(id);
  return ReadOne(db, read);
}

absl::StatusOr<std::optional<KeyRecord>> SqliteFindKey(SqliteConnection& db,
                                                       std::string_view locator) {
  SqliteStatement read(db, "SELECT " THROTTL_KEY_COLUMNS
                           " FROM api_key WHERE id = "
                           "(SELECT key_id FROM key_secret WHERE locator = ?)");
  read.Bind(locator);
  THROTTL_ASSIGN_OR_RETURN(std::optional<KeyRecord> record, ReadOne(db, read));
  if (record.has_value() && !HasLocator(*record, locator)) {
    return absl::DataLossError(absl::StrCat("locator \"", AbslView(locator), "\" leads to key \"",
                                            record->key.id,
                                            "\" in the database, which does not have it"));
  }
  return record;
}

absl::StatusOr<Page<KeyRecord>> SqliteListKeys(SqliteConnection& db, const KeyQuery& query) {
  if (!query.locator.empty()) return ListByLocator(db, query);
  THROTTL_ASSIGN_OR_RETURN(const Cursor cursor, ParseCursor(query.cursor));
  SqliteStatement read(db, ListSql(query));
  read.Bind(query.owner_id)
      .Bind(cursor.created_at_ms)
      .Bind(cursor.id)
      .Bind(query.plan_id)
      .Bind(std::int64_t{query.include_revoked})
      .Bind(std::int64_t{query.count_max} + 1);
  Page<KeyRecord> page;
  while (read.Step()) {
    if (page.items.size() == static_cast<std::size_t>(query.count_max)) {
      const Key& last = page.items.back().key;
      page.next_cursor = absl::StrCat(absl::ToUnixMillis(last.created_at), ":", last.id);
      break;
    }
    THROTTL_ASSIGN_OR_RETURN(KeyRecord record, Complete(db, ReadKeyRow(read)));
    page.items.push_back(std::move(record));
  }
  THROTTL_RETURN_IF_ERROR(read.status());
  return page;
}

absl::StatusOr<bool> SqliteHasImportedSecrets(SqliteConnection& db) {
  // The character after '_' is '`'.
  THROTTL_ASSIGN_OR_RETURN(const std::int64_t exists,
                           db.ReadNumber("SELECT EXISTS (SELECT 1 FROM key_secret "
                                         "WHERE locator >= 'imp_' AND locator < 'imp`')"));
  return exists != 0;
}

absl::StatusOr<std::vector<std::int32_t>> SqliteReadPepperVersions(SqliteConnection& db) {
  // Steps from one version to the next by the index, and asks for one live key of each.
  SqliteStatement read(
      db,
      "WITH RECURSIVE version(number) AS ("
      " SELECT min(pepper_version) FROM key_secret UNION ALL"
      " SELECT (SELECT min(pepper_version) FROM key_secret WHERE pepper_version > number)"
      " FROM version WHERE number IS NOT NULL) "
      "SELECT number FROM version WHERE number IS NOT NULL AND EXISTS ("
      " SELECT 1 FROM key_secret JOIN api_key ON api_key.id = key_secret.key_id"
      " WHERE pepper_version = number AND revoked_at IS NULL) ORDER BY number");
  std::vector<std::int32_t> versions;
  while (read.Step()) versions.push_back(read.Int32(0));
  THROTTL_RETURN_IF_ERROR(read.status());
  return versions;
}

absl::Status SqlitePutKeys(SqliteConnection& db, std::span<const KeyRecord> records) {
  for (const KeyRecord& record : records) {
    THROTTL_RETURN_IF_ERROR(WriteRow(db, record));
    THROTTL_RETURN_IF_ERROR(EraseSecrets(db, record.key.id));
  }
  for (const KeyRecord& record : records) THROTTL_RETURN_IF_ERROR(WriteParts(db, record));
  return absl::OkStatus();
}

absl::Status SqlitePutActivity(SqliteConnection& db, const KeyActivity& activity) {
  SqliteStatement write(db,
                        "UPDATE api_key SET last_used_at = max(coalesce(last_used_at, ?1), ?1), "
                        "detector_state = ?2 WHERE id = ?3");
  const std::string& state = activity.detector_state;
  write.Bind(absl::ToUnixMillis(activity.last_used_at))
      .BindBlob({reinterpret_cast<const std::uint8_t*>(state.data()), state.size()})
      .Bind(activity.key_id);
  return write.Finish();
}

}  // namespace throttl::internal
