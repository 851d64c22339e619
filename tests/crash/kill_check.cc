#include "tests/crash/kill_check.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <sqlite3.h>

#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"

namespace throttl::testing {
namespace {

struct KeyPlace {
  std::size_t lane = 0;
  std::size_t number = 0;
};

// The number that stands in `text` after `name`.
std::optional<std::size_t> NumberAfter(std::string_view text, std::string_view name) {
  const std::size_t found = text.find(name);
  if (found == std::string_view::npos) return std::nullopt;
  std::size_t number = 0;
  const char* begin = text.data() + found + name.size();
  if (std::from_chars(begin, text.data() + text.size(), number).ec != std::errc()) {
    return std::nullopt;
  }
  return number;
}

std::optional<KeyPlace> PlaceOf(const std::string& key_id) {
  const auto lane = NumberAfter(key_id, "lane");
  const auto number = NumberAfter(key_id, "-");
  if (!lane || !number || *lane >= kLanes || *number >= kKeysOfLane) return std::nullopt;
  return KeyPlace{.lane = *lane, .number = *number};
}

KillCall CallOf(std::string_view type) {
  if (type == event_type::kKeyCreated) return KillCall::kCreate;
  if (type == event_type::kKeyRotated) return KillCall::kRotate;
  if (type == event_type::kKeyUpdated) return KillCall::kUpdate;
  return type == event_type::kKeyRevoked ? KillCall::kRevoke : KillCall::kNone;
}

// What differs between the stored secret and the ledger's; empty: nothing.
std::string SecretFault(const SecretRecord& stored, const LedgerSecret& expected, bool retiring) {
  if (stored.info.locator != expected.Locator()) {
    return absl::StrCat("locator ", stored.info.locator, " for ", expected.Locator());
  }
  if (stored.digest != expected.digest) return "a digest";
  return stored.info.expires_at.has_value() == retiring ? "" : "a secret's expiry";
}

// What differs between the stored record and the ledger's; empty: nothing.
std::string RecordFault(const KeyRecord& stored, const KeyPlace& place, const LedgerKey& expected) {
  const Key settings = SettingsOfVersion(place.lane, place.number, expected.settings_version);
  const Key& key = stored.key;
  if (key.version != expected.version) {
    return absl::StrCat("version ", key.version, " for ", expected.version);
  }
  if (key.name != settings.name || key.plan_id != settings.plan_id) return "its name or plan";
  if (key.scopes != settings.scopes) return "its scopes";
  if (key.rate_limits.size() != 1 ||
      key.rate_limits.front().limit != settings.rate_limits.front().limit) {
    return "its rate limits";
  }
  if (key.revoked_at.has_value() != expected.revoked) return "whether it is revoked";
  const bool retiring = !expected.older.Locator().empty();
  if (stored.secrets.size() != (retiring ? 2U : 1U)) {
    return absl::StrCat(stored.secrets.size(), " secrets");
  }
  std::string fault = SecretFault(stored.secrets[0], expected.newest, false);
  if (fault.empty() && retiring) fault = SecretFault(stored.secrets[1], expected.older, true);
  return fault;
}

std::string EventFault(const LedgerEvents& events, const LedgerKey& expected) {
  if (events.count != expected.version) {
    return absl::StrCat(events.count, " events for version ", expected.version);
  }
  const bool rotated = expected.last_call == KillCall::kRotateWithOverlap;
  if (events.last != (rotated ? KillCall::kRotate : expected.last_call)) return "its last event";
  if (events.last == KillCall::kRotate && events.last_locator != expected.newest.locator) {
    return "the locator of its last event";
  }
  return "";
}

class Checker {
 public:
  Checker(QuotaStore& store, KillLedger& ledger) : store_(store), ledger_(ledger) {}

  // Goes on in the log where the last checker stopped. Each step of a version has one event.
  absl::Status CountEvents() {
    for (;;) {
      THROTTL_ASSIGN_OR_RETURN(const std::vector<Event> events,
                               store_.ReadEvents(ledger_.events_seq, kStoreBatchMax));
      if (events.empty()) return absl::OkStatus();
      for (const Event& event : events) CountEvent(event);
      ledger_.events_seq = events.back().seq;
    }
  }

  // Whether a call that was never acknowledged has happened, by the version of its key: the checks
  // that follow find out whether it happened whole.
  absl::Status SettleLane(std::size_t lane_number) {
    Lane& lane = ledger_.lanes[lane_number];
    if (lane.phase() == Lane::Phase::kAcknowledged) lane.EnterAcknowledged();
    if (lane.phase() == Lane::Phase::kIdle) return absl::OkStatus();
    const KeyPlace place{.lane = lane_number, .number = lane.called_number()};
    const std::string id = LaneKeyId(place.lane, place.number);
    THROTTL_ASSIGN_OR_RETURN(const std::vector<KeyRecord> stored,
                             store_.ReadKeys(std::span(&id, 1)));
    if (!stored.empty() && stored.front().key.version == lane.called().version) {
      lane.EnterAcknowledged();
      ++ledger_.unacknowledged_whole;
      return absl::OkStatus();
    }
    ++ledger_.unacknowledged_absent;
    const LedgerKey before = lane.key(place.number);
    lane.Withdraw();
    if (before.version != 0) return CheckKeys({place});
    if (!stored.empty()) HalfMade(id, "it is there and was not made");
    if (lane.events[place.number].count != 0) HalfMade(id, "it has an event and was not made");
    return absl::OkStatus();
  }

  // Compares the keys that `lane` changed in `life`, or all of them.
  absl::Status CheckLane(std::size_t lane_number, std::optional<std::int64_t> life) {
    const Lane& lane = ledger_.lanes[lane_number];
    std::vector<KeyPlace> places;
    for (std::size_t number = 0; number < lane.key_count(); ++number) {
      if (life.has_value() && lane.key(number).life != *life) continue;
      places.push_back({.lane = lane_number, .number = number});
      if (places.size() < kStoreBatchMax) continue;
      THROTTL_RETURN_IF_ERROR(CheckKeys(std::exchange(places, {})));
    }
    return CheckKeys(places);
  }

  absl::Status CheckNoOthers() {
    KeyQuery query{.count_max = kStoreBatchMax};
    do {
      THROTTL_ASSIGN_OR_RETURN(const Page<KeyRecord> page, store_.ListKeys(query));
      for (const KeyRecord& record : page.items) {
        const auto place = PlaceOf(record.key.id);
        if (place.has_value() && place->number < ledger_.lanes[place->lane].key_count()) continue;
        HalfMade(record.key.id, "it is in no ledger");
      }
      query.cursor = page.next_cursor;
    } while (!query.cursor.empty());
    return absl::OkStatus();
  }

 private:
  void CountEvent(const Event& event) {
    const KillCall call = CallOf(event.type);
    if (call == KillCall::kNone) return;  // of a plan
    const auto place = PlaceOf(event.key_id);
    if (!place.has_value()) return HalfMade(event.key_id, "an event of a key that is nobody's");
    LedgerEvents& events = ledger_.lanes[place->lane].events[place->number];
    ++events.count;
    events.last = call;
    const auto version = NumberAfter(event.data, "\"version\":");
    if (version != static_cast<std::size_t>(events.count)) {
      HalfMade(event.key_id,
               absl::StrCat("event ", events.count, " is of another version: ", event.data));
    }
    constexpr std::string_view kName = "\"locator\":\"";
    const std::size_t found = event.data.find(kName);
    if (found == std::string::npos) return;
    event.data.copy(events.last_locator.data(), events.last_locator.size() - 1,
                    found + kName.size());
  }

  absl::Status CheckKeys(const std::vector<KeyPlace>& places) {
    std::vector<std::string> ids;
    std::vector<std::string> locators;
    for (const KeyPlace& place : places) {
      ids.push_back(LaneKeyId(place.lane, place.number));
      locators.push_back(ledger_.lanes[place.lane].key(place.number).newest.Locator());
    }
    THROTTL_ASSIGN_OR_RETURN(const std::vector<KeyRecord> stored, store_.ReadKeys(ids));
    THROTTL_ASSIGN_OR_RETURN(const std::vector<KeyRecord> found, store_.FindKeys(locators));
    std::map<std::string, const KeyRecord*> by_id;
    std::map<std::string, const KeyRecord*> by_locator;
    for (const KeyRecord& record : stored) by_id[record.key.id] = &record;
    for (const KeyRecord& record : found) {
      if (!record.secrets.empty()) by_locator[record.secrets.front().info.locator] = &record;
    }
    for (std::size_t i = 0; i < places.size(); ++i) {
      CheckKey(places[i], by_id[ids[i]], by_locator[locators[i]]);
    }
    return absl::OkStatus();
  }

  void CheckKey(const KeyPlace& place, const KeyRecord* stored, const KeyRecord* found) {
    const Lane& lane = ledger_.lanes[place.lane];
    const LedgerKey& expected = lane.key(place.number);
    const std::string id = LaneKeyId(place.lane, place.number);
    if (stored == nullptr || stored->key.version < expected.version) {
      ++ledger_.lost;
      ledger_.report.Add(absl::StrCat(id, " is lost: version ", expected.version,
                                      " was acknowledged, stored is ",
                                      stored == nullptr ? 0 : stored->key.version));
      return;
    }
    std::string fault = RecordFault(*stored, place, expected);
    if (fault.empty()) fault = EventFault(lane.events[place.number], expected);
    if (fault.empty() && (found == nullptr || found->key.id != id)) fault = "its locator's key";
    if (!fault.empty()) HalfMade(id, "differs: " + fault);
  }

  void HalfMade(const std::string& id, std::string_view what) {
    ++ledger_.half_made;
    ledger_.report.Add(absl::StrCat(id, " is half made: ", internal::AbslView(what)));
  }

  QuotaStore& store_;
  KillLedger& ledger_;
};

absl::Status CheckKilled(const std::string& path, const KilledWorker& killed, KillLedger& ledger) {
  THROTTL_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                           Engine::Open(path, {.settle_thread = false}));
  Checker checker(*engine->store(), ledger);
  THROTTL_RETURN_IF_ERROR(checker.CountEvents());
  for (std::size_t i = 0; i < kLanesOfWorker; ++i) {
    const std::size_t lane = killed.worker * kLanesOfWorker + i;
    THROTTL_RETURN_IF_ERROR(checker.SettleLane(lane));
    THROTTL_RETURN_IF_ERROR(checker.CheckLane(lane, killed.life));
  }
  return absl::OkStatus();
}

absl::Status CheckAll(const std::string& path, KillLedger& ledger) {
  THROTTL_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                           Engine::Open(path, {.settle_thread = false}));
  Checker checker(*engine->store(), ledger);
  THROTTL_RETURN_IF_ERROR(checker.CountEvents());
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    THROTTL_RETURN_IF_ERROR(checker.CheckLane(lane, std::nullopt));
  }
  return checker.CheckNoOthers();
}

// Only told: it says that the file is sound, not that nothing is missing from it.
void ReadIntegrity(const std::string& path, KillLedger& ledger) {
  sqlite3* db = nullptr;
  sqlite3_open_v2(path.c_str(), &db, SQLITE_OPEN_READWRITE, nullptr);
  const auto keep = [](void* text, int, char** values, char**) {
    std::array<char, 64>& kept = *static_cast<std::array<char, 64>*>(text);
    const std::string_view value = values[0];
    std::copy_n(value.begin(), std::min(value.size(), kept.size() - 1), kept.begin());
    return 0;
  };
  sqlite3_exec(db, "PRAGMA integrity_check(1)", keep, &ledger.integrity, nullptr);
  sqlite3_close(db);
}

}  // namespace

int CheckAfterKill(const std::string& path, const KilledWorker& killed, KillLedger& ledger) {
  const absl::Status status = CheckKilled(path, killed, ledger);
  if (status.ok()) return 0;
  ledger.report.Add("after a kill: " + status.ToString());
  return 1;
}

int CheckAllKeys(const std::string& path, KillLedger& ledger) {
  const absl::Status status = CheckAll(path, ledger);
  ReadIntegrity(path, ledger);
  if (status.ok()) return 0;
  ledger.report.Add("at the end: " + status.ToString());
  return 1;
}

}  // namespace throttl::testing
