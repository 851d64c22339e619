#include "tests/faults/damage_parts.h"

#include <algorithm>

#include "throttl/sqlite_store.h"

#include "tests/faults/fault_parts.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kSector = 512;
constexpr std::int64_t kKeys = 50;

std::size_t Below(std::mt19937_64& random, std::size_t bound) {
  return static_cast<std::size_t>(random() % std::max<std::size_t>(bound, 1));
}

// Applies change sets and remembers which records each commit has left.
class History {
 public:
  History(QuotaStore& store, DamageStore& out) : store_(store), out_(out) {}

  void Put(const Plan& plan) {
    Commit({.put_plans = {plan}}, "plan " + plan.id, SettingsText(plan));
  }

  void Put(const KeyRecord& record) {
    ChangeSet changes{.put_keys = {record}};
    changes.events = {NewEvent(absl::StrCat("event-", record.key.id, "-", record.key.version))};
    Commit(std::move(changes), record.key.id, SettingsText(record));
    for (const SecretRecord& secret : record.secrets) {
      out_.key_of_locator[secret.info.locator] = record.key.id;
    }
  }

  // Changes a stored key with `change`.
  template <typename Change>
  void Edit(const std::string& id, const Change& change) {
    KeyRecord record = Must(store_.ReadKeys(std::vector<std::string>{id})).at(0);
    change(record);
    ++record.key.version;
    Put(record);
  }

 private:
  void Commit(ChangeSet changes, const std::string& name, const std::string& text) {
    changes.id = absl::StrCat("change-", out_.commits);
    Must(store_.Apply(changes));
    ++out_.commits;
    if (!last_[name].empty()) out_.when[last_[name]].end = out_.commits;
    last_[name] = text;
    out_.when[text].first = out_.commits;
  }

  QuotaStore& store_;
  DamageStore& out_;
  std::map<std::string, std::string> last_;
};

void MakePlans(History& history) {
  history.Put(NewPlan("free"));
  Plan team = NewPlan("team");
  team.quota = Quota{
      .limit = 200'000, .period = Period::kWeek, .scope = QuotaScope::kOwner, .soft_percent = 10};
  team.rate_limits = {{.name = "search",
                       .limit = 20,
                       .endpoint = "GET /v1/search/**",
                       .algorithm = RateAlgorithm::kSlidingWindow,
                       .counts = RateCost::kRequests},
                      {.name = "all", .limit = 600, .burst = 20}};
  history.Put(team);
  Plan open = NewPlan("open");
  open.quota = std::nullopt;
  history.Put(open);
}

void MakeKeys(History& history, DamageStore& out) {
  for (std::int64_t i = 0; i < kKeys; ++i) {
    const KeyRecord record = DamageKey(i);
    out.key_ids.push_back(record.key.id);
    history.Put(record);
  }
}

void Rotate(KeyRecord& record) {
  record.secrets.insert(record.secrets.begin(), NewSecret("new-" + record.key.id));
  record.secrets.at(1).info.expires_at = At(86400);
}

}  // namespace

KeyRecord DamageKey(std::int64_t number) {
  KeyRecord record =
      NewKey(absl::StrCat("key-", number / 10, number % 10), number % 3 == 0 ? "team" : "free",
             number % 2 == 0 ? "acme" : "acmf", number);
  Key& key = record.key;
  if (number % 5 == 0) key.enabled = false;
  if (number % 7 == 0) key.expires_at = At(100);
  if (number % 4 == 0) key.scopes = {"read", "write"};
  if (number % 6 == 0) key.addresses = {"10.0.0.0/8", "2001:db8::/32"};
  if (number % 8 == 0) key.quota = Quota{.limit = 1000 + number, .period = Period::kDay};
  if (number % 9 == 0) key.rate_limits = {{.name = "own", .limit = 5, .burst = 50}};
  if (number % 16 == 0) key.quota->soft_percent = 20;
  if (number % 18 == 0) key.rate_limits.front().shadow = true;
  if (number % 10 == 0) key.metadata = std::string(3000, 'm');
  if (number % 11 == 0) record.secrets.at(0).pepper_version = 2;
  return record;
}

const char* DamageName(DamageKind kind) {
  static constexpr const char* kNames[kDamageKinds] = {"flipped bits", "zeroed sector", "truncated",
                                                       "swapped pages", "duplicated page"};
  return kNames[static_cast<std::size_t>(kind)];
}

void Damage(DamageKind kind, std::mt19937_64& random, std::string& bytes) {
  const std::size_t a = Below(random, bytes.size() / kPage) * kPage;
  const std::size_t b = Below(random, bytes.size() / kPage) * kPage;
  switch (kind) {
    case DamageKind::kFlipBits:
      for (std::size_t count = 1 + Below(random, 64); count > 0; --count) {
        char& byte = bytes.at(Below(random, bytes.size()));
        byte = static_cast<char>(byte ^ (1 << Below(random, 8)));
      }
      return;
    case DamageKind::kZeroSector: {
      const std::size_t begin = Below(random, bytes.size() / kSector) * kSector;
      bytes.replace(begin, kSector, std::string(kSector, '\0'));
      return;
    }
    case DamageKind::kTruncate:
      bytes.resize(Below(random, bytes.size()));
      return;
    case DamageKind::kSwapPages:
      for (std::size_t i = 0; i < kPage; ++i) std::swap(bytes.at(a + i), bytes.at(b + i));
      return;
    case DamageKind::kDuplicatePage:
      bytes.replace(a, kPage, bytes.substr(b, kPage));
      return;
  }
}

std::string SettingsText(KeyRecord record) {
  record.key.last_used_at.reset();
  record.detector_state.clear();
  return Dump(record);
}

std::string SettingsText(const Plan& plan) { return Dump(plan); }

SettleBatch DamageSettle() {
  return {.holder = HolderId{77}, .now = At(10), .rows = {NewRow("key-01", 2, 7, 7, 5)}};
}

DamageStore MakeDamageStore(const std::string& directory) {
  DamageStore out;
  const std::string path = directory + "/throttl.db";
  {
    const auto store = Must(OpenSqliteStore({.path = path}));
    History history(*store, out);
    MakePlans(history);
    MakeKeys(history, out);
    for (std::size_t i = 0; i < out.key_ids.size(); i += 3) {
      history.Edit(out.key_ids[i], [](KeyRecord& record) { record.key.revoked_at = At(50); });
    }
    for (std::size_t i = 1; i < out.key_ids.size(); i += 4) history.Edit(out.key_ids[i], Rotate);
    SettleBatch batch = DamageSettle();
    batch.rows = {NewRow("key-01", 1, 0, 0, 10), NewRow("key-02", 1, 0, 0, 95)};
    batch.usage = {{.key_id = "key-01", .hour = {.start = At(0), .allowed = 7, .units = 7}}};
    batch.activity = {{.key_id = "key-01", .last_used_at = At(5), .detector_state = "state"}};
    MustSettle(*store, batch);
    out.file_commits = out.commits;
  }
  REQUIRE(PlainSqlite(path).Run("PRAGMA wal_checkpoint(TRUNCATE)") == "0|0|0");
  out.file = ReadBytes(path);
  {
    const auto store = Must(OpenSqliteStore({.path = path}));
    History history(*store, out);
    for (std::int64_t i = kKeys; i < kKeys + 4; ++i) history.Put(DamageKey(i));
    for (std::size_t i = 2; i < out.key_ids.size(); i += 12) {
      history.Edit(out.key_ids[i], [](KeyRecord& record) { record.key.name = "renamed"; });
      history.Edit(out.key_ids[i], [](KeyRecord& record) { record.key.revoked_at = At(60); });
    }
    for (std::int64_t i = kKeys; i < kKeys + 4; ++i) out.key_ids.push_back(DamageKey(i).key.id);
    store->Suspend();
    out.file_with_log = ReadBytes(path);
    out.log = ReadBytes(path + "-wal");
  }
  // One bit away from those that there are.
  for (const auto& known : out.key_of_locator) {
    out.unknown_locators.push_back(known.first);
    out.unknown_locators.back().back() ^= 0x40;
  }
  REQUIRE(out.log.size() > 10 * kPage);
  out.settle_reply =
      Dump(Must(Must(OpenSqliteStore({.path = path}))->Settle(DamageSettle())).at(0));
  return out;
}

}  // namespace throttl::testing
