// The life of a key, on a SQLite file: what a host does to manage keys and plans.
//
//   keys [FILE]      throttl.db by default; made when it is not there
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <throttl/engine.h>

namespace {

using throttl::Engine;

// Ends the program with the status when something fails that must not.
template <typename T>
T ValueOrExit(absl::StatusOr<T> result) {
  if (!result.ok()) {
    std::cerr << result.status() << '\n';
    std::exit(1);
  }
  return *std::move(result);
}

void OkOrExit(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << status << '\n';
  std::exit(1);
}

std::string Day(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M", time, absl::UTCTimeZone());
}

std::string QuotaText(const std::optional<throttl::Quota>& quota) {
  if (!quota) return "no quota";
  return std::to_string(quota->limit) + " a " + std::string(throttl::PeriodName(quota->period));
}

void ShowKeys(Engine& engine) {
  for (const throttl::Key& key : ValueOrExit(engine.ListKeys()).items) {
    std::cout << "  " << key.id << ": " << key.name << ", " << key.owner_id << " on "
              << key.plan_id;
    if (key.quota) std::cout << ", its own quota " << QuotaText(key.quota);
    if (key.secrets.size() == 2 && !key.revoked_at) {
      std::cout << ", two secrets until " << Day(key.secrets[1].expires_at.value());
    }
    if (key.revoked_at) std::cout << ", revoked " << Day(*key.revoked_at);
    std::cout << '\n';
  }
}

void ShowPlans(Engine& engine) {
  std::cout << "plans that every new store has:\n";
  for (const throttl::Plan& plan : ValueOrExit(engine.ListPlans())) {
    std::cout << "  " << plan.id << ": " << QuotaText(plan.quota);
    for (const throttl::RateLimit& rate : plan.rate_limits) {
      std::cout << ", " << rate.limit << " in " << absl::FormatDuration(rate.window);
    }
    std::cout << '\n';
  }
}

void IssueAndRotate(Engine& engine, throttl::ManualClock& clock) {
  throttl::IssuedKey issued = ValueOrExit(engine.CreateKey(
      {.owner_id = "acme", .plan_id = "free", .name = "prod", .id = "key_prod"}, {.actor = "ann"}));
  std::cout << "\na key for acme; its secret is shown once:\n  " << issued.secret.Reveal() << '\n';

  clock.Advance(absl::Hours(24 * 30));
  const throttl::IssuedKey rotated =
      ValueOrExit(engine.RotateKey("key_prod", {.overlap = absl::Hours(24)}, {.actor = "ann"}));
  std::cout << "a month later it is rotated; both secrets work for a day:\n  "
            << rotated.secret.Reveal() << '\n';
  ShowKeys(engine);
}

void Update(Engine& engine) {
  throttl::Key key = ValueOrExit(engine.GetKey("key_prod"));
  const throttl::Key read_earlier = key;
  key.name = "production";
  key.quota = throttl::Quota{.limit = 2'500};
  ValueOrExit(engine.UpdateKey(key, {.actor = "ann"}));
  std::cout << "\na new name, and a quota of its own:\n";
  ShowKeys(engine);
  std::cout << "an update of what has changed since it was read: "
            << engine.UpdateKey(read_earlier).status().code() << '\n';
  std::cout << "another owner asks for the key: "
            << engine.GetKey("key_prod", {.owner_id = "globex"}).status().code() << '\n';
}

// Keys of another system keep their secrets: only digests move.
void Import(Engine& engine) {
  std::vector<throttl::ImportedKey> keys(2);
  keys[0].key = {.owner_id = "globex", .plan_id = "pro", .name = "web", .id = "old_1"};
  keys[0].digest = ValueOrExit(throttl::ParseSha256Digest(
      "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"));
  keys[1].key = {.owner_id = "globex", .plan_id = "pro", .name = "batch", .id = "old_2"};
  keys[1].digest =
      ValueOrExit(throttl::ParseSha256Digest("YDA64iuZiGG847KPM+7BvnWKITyGyTwHbb6fVYwRx1I="));
  const throttl::ImportReport report = ValueOrExit(engine.ImportKeys(keys, {.actor = "ann"}));
  std::cout << "\n" << report.imported << " keys of another system are imported:\n";
  ShowKeys(engine);
}

void ChangePlans(Engine& engine) {
  ValueOrExit(engine.PutPlan(
      {.id = "team", .name = "Team", .quota = throttl::Quota{.limit = 200'000}}, {.actor = "bob"}));
  throttl::Key key = ValueOrExit(engine.GetKey("old_1"));
  key.plan_id = "team";
  ValueOrExit(engine.UpdateKey(key, {.actor = "bob"}));
  std::cout << "\na plan with a key on it cannot go: " << engine.DeletePlan("team").code() << '\n';
  OkOrExit(engine.RevokeKey("old_1", {.actor = "bob"}));
  std::cout << "after the key is revoked it can: "
            << engine.DeletePlan("team", {.actor = "bob"}).code() << '\n';
  OkOrExit(engine.RevokeKey("key_prod", {.actor = "bob"}));
  ShowKeys(engine);
}

void ShowEvents(Engine& engine) {
  std::cout << "\nthe event log:\n";
  for (const throttl::Event& event : ValueOrExit(engine.ReadEvents(0, 1000))) {
    std::cout << "  " << Day(event.at) << "  " << event.type << "  " << event.key_id << "  by "
              << (event.actor.empty() ? "the engine" : event.actor) << '\n';
  }
}

void BackUp(Engine& engine, const std::string& copy) {
  OkOrExit(engine.Backup(copy));
  OkOrExit(engine.Close());
  const auto restored = ValueOrExit(Engine::Open(copy));
  std::cout << "\nthe backup holds " << ValueOrExit(restored->ListKeys()).items.size() << " keys\n";
  OkOrExit(restored->Close());
}

}  // namespace

int main(int argc, char** argv) {
  const std::string path = argc > 1 ? argv[1] : "throttl.db";
  // A clock that this program moves by hand, so that it shows a month and always prints the same.
  const auto clock = std::make_shared<throttl::ManualClock>(absl::FromUnixSeconds(1767268800));
  const auto engine = ValueOrExit(Engine::Open(path, {.clock = clock}));
  ShowPlans(*engine);
  IssueAndRotate(*engine, *clock);
  Update(*engine);
  Import(*engine);
  ChangePlans(*engine);
  ShowEvents(*engine);
  BackUp(*engine, path + ".backup");
  return 0;
}
