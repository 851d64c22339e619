// Bringing keys from Unkey (base64), better-auth (base64url) or another system that holds secrets
// in clear, without issuing new ones: holders keep the secrets that they have.
#include <cstdint>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include <throttl/engine.h>

namespace {

struct OldKey {
  std::string id, owner, name, plan, sha256, secret;
  std::int64_t used;
};

absl::StatusOr<throttl::ImportReport> Migrate(throttl::Engine& engine,
                                              const std::vector<OldKey>& old_keys) {
  std::vector<throttl::ImportedKey> batch;
  for (const OldKey& old : old_keys) {
    throttl::ImportedKey imported;
    imported.key = {.owner_id = old.owner, .plan_id = old.plan, .name = old.name, .id = old.id};
    if (old.secret.empty()) {
      absl::StatusOr<throttl::Sha256Digest> digest = throttl::ParseSha256Digest(old.sha256);
      if (!digest.ok()) return digest.status();
      imported.digest = *digest;
    } else {
      imported.digest = throttl::Sha256(old.secret);
    }
    imported.used = old.used;
    batch.push_back(std::move(imported));
  }
  return engine.ImportKeys(batch, {.actor = "migration"});
}

void Print(const absl::StatusOr<throttl::ImportReport>& report) {
  if (!report.ok()) {
    std::cout << report.status() << '\n';
    return;
  }
  std::cout << report->imported << " imported, " << report->unchanged << " unchanged, "
            << report->conflicts.size() << " in conflict\n";
  for (const std::string& id : report->conflicts) std::cout << "  conflict: " << id << '\n';
}

absl::Status Run() {
  auto engine = throttl::Engine::Open("memory:");
  if (!engine.ok()) return engine.status();

  std::vector<OldKey> old_keys = {
      {"key_1", "acme", "web", "free", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "", 12},
      {"key_2", "acme", "app", "pro", "n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg", "", 0},
      {"key_3", "globex", "batch", "pro", "", "tk_0123456789abcdef0123456789abcdef", 700},
  };
  Print(Migrate(**engine, old_keys));
  Print(Migrate(**engine, old_keys));  // again is harmless
  old_keys[0].secret = "another secret";
  Print(Migrate(**engine, old_keys));  // one id with two secrets: nothing is changed
  old_keys[1].sha256 = "n4bQgYhMfWWaL";
  Print(Migrate(**engine, old_keys));  // not a digest

  auto keys = (*engine)->ListKeys();
  if (!keys.ok()) return keys.status();
  for (const throttl::Key& key : keys->items) {
    std::cout << key.id << ": " << key.name << " of " << key.owner_id << " on " << key.plan_id
              << '\n';
  }
  return (*engine)->Close();
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}
