// The store contract: settling, counters, holders and usage.
#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/scale.h"
#include "tests/settle/settle_history.h"
#include "tests/store/store_contract_parts.h"

namespace throttl::testing {
namespace {

constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kHour = 3600;
constexpr std::int64_t kDay = 24 * kHour;

std::string DumpAll(const std::vector<SettleReply>& replies) {
  std::string text;
  for (const SettleReply& reply : replies) text += Dump(reply);
  return text;
}

std::string DumpAll(const std::vector<Event>& events) {
  std::string text;
  for (const Event& event : events) text += Dump(event);
  return text;
}

std::string DumpAll(const std::vector<UsageBucket>& buckets) {
  std::string text;
  for (const UsageBucket& bucket : buckets) text += Dump(bucket);
  return text;
}

// What a store must do, with nothing but maps.
struct Model {
  std::map<CounterId, Counter> counters = {};
  std::map<std::pair<CounterId, HolderId>, Lease> leases = {};
  std::vector<Event> events = {};

  std::vector<SettleReply> Settle(const SettleBatch& batch) {
    std::vector<SettleReply> replies;
    for (const SettleRow& row : batch.rows) {
      replies.push_back(ApplySettle(row, batch.now, batch.lease_ttl, counters[row.counter],
                                    leases[{row.counter, batch.holder}], events));
    }
    return replies;
  }
  void Carry(const std::vector<CarryRow>& rows) {
    for (const CarryRow& row : rows) {
      Counter counter = counters[row.counter];
      if (ApplyCarryOver(row, counter)) counters[row.counter] = counter;
    }
  }
  void Retire(HolderId holder, LeaseState end) {
    for (auto& [id, lease] : leases) {
      if (id.second == holder) ApplyRetire(end, counters[id.first], lease);
    }
  }
};

// Holder ids and subjects at the ends of what they may be.
const std::array kHolders = {HolderId{1}, HolderId{std::uint64_t{1} << 63},
                             HolderId{~std::uint64_t{0}}};
const std::array<std::string, 5> kSubjects = {"k:1", "k:2", "K:1", std::string("\0\xff'\n", 4),
                                              std::string(127, 's')};

SettleRow RandomRow(std::mt19937& rng, const CounterId& counter, const Lease& lease) {
  const auto roll = [&](std::int64_t sides) {
    return static_cast<std::int64_t>(rng() % static_cast<std::uint64_t>(sides));
  };
  SettleRow row{.counter = counter, .period_end = counter.period_start + absl::Seconds(kDay)};
  if (roll(9) == 0) row.period_end = std::nullopt;
  if (roll(9) != 0) row.limit = roll(9) == 0 ? kLimitMax : roll(200);
  row.limit_version = roll(3) == 0 ? kInt64Max - 1 : roll(4);
  row.alert_percents = {50, 100};
  row.owner_id = "acme";
  row.key_id = roll(2) == 0 ? "" : "key";
  // The seq of a retired lease is the largest there is.
  row.seq = lease.seq == kInt64Max ? roll(1000) : lease.seq + roll(4) - (lease.seq > 1 ? 1 : 0);
  row.keep =
      roll(9) == 0 ? lease.allowance + 1 : lease.used + roll(lease.allowance - lease.used + 1);
  row.used = roll(row.keep + 1);
  row.close = roll(9) == 0;
  if (row.close) row.used = row.keep;
  if (!row.close) row.want = roll(60);
  row.want_min = roll(5);
  row.refused = roll(4) == 0;
  return row;
}

void SettleIsApplySettle(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Model model;
  const std::uint32_t seed = 20260101;
  INFO("seed ", seed);
  std::mt19937 rng(seed);
  std::vector<CounterId> ids;
  for (const std::string& subject : kSubjects) {
    ids.push_back({subject, At(0)});
    ids.push_back({subject, At(kDay)});
  }
  ids.push_back({"k:1", absl::UnixEpoch()});
  const std::int64_t rounds = Scaled(300);
  for (std::int64_t round = 0; round < rounds; ++round) {
    const HolderId holder = kHolders[rng() % kHolders.size()];
    if (rng() % 20 == 0) {
      const LeaseState end = rng() % 2 == 0 ? LeaseState::kClosed : LeaseState::kLost;
      REQUIRE(store->RetireHolder(holder, end).ok());
      model.Retire(holder, end);
    }
    SettleBatch batch{.holder = holder, .now = At(static_cast<std::int64_t>(rng() % (2 * kDay)))};
    if (rng() % 2 == 0) batch.lease_ttl = absl::Seconds(30);
    std::shuffle(ids.begin(), ids.end(), rng);
    for (std::size_t i = 0; i < rng() % ids.size(); ++i) {
      batch.rows.push_back(RandomRow(rng, ids[i], model.leases[{ids[i], holder}]));
    }
    const std::string expected = DumpAll(model.Settle(batch));
    REQUIRE(DumpAll(MustSettle(*store, batch)) == expected);
    const auto counters = Must(store->ReadCounters(ids));
    REQUIRE(counters.size() == ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      REQUIRE(Dump(counters[i]) == Dump(model.counters[ids[i]]));
    }
  }
  CHECK(DumpAll(Must(ReadAllEvents(*store, 0))) == DumpAll(model.events));
}

// One in four is no news.
CarryRow RandomCarry(std::mt19937& rng, const CounterId& id, const Counter& counter) {
  CarryRow row{.counter = id,
               .carry_over = static_cast<CarryOver>(1 + rng() % 4),
               .period_end = id.period_start + absl::Seconds(kDay),
               .limit_before = counter.limit,
               .limit_version = counter.limit_version + (rng() % 4 == 0 ? 0 : 1),
               .owner_id = "acme",
               .key_id = rng() % 2 == 0 ? "" : "key"};
  if (rng() % 9 != 0) row.limit = rng() % 9 == 0 ? kLimitMax : rng() % 300;
  return row;
}

void CarryOverIsApplyCarryOver(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Model model;
  const std::uint32_t seed = 20260102;
  INFO("seed ", seed);
  std::mt19937 rng(seed);
  std::vector<CounterId> ids;
  for (const std::string& subject : kSubjects) ids.push_back({subject, At(0)});
  const std::int64_t rounds = Scaled(300);
  std::int64_t carried = 0;
  for (std::int64_t round = 0; round < rounds; ++round) {
    std::shuffle(ids.begin(), ids.end(), rng);
    SettleBatch batch{.holder = kHolders[rng() % kHolders.size()], .now = At(5)};
    ChangeSet changes = NewChanges();
    for (std::size_t i = 0; i < 3; ++i) {
      const Counter& counter = model.counters[ids[i]];
      batch.rows.push_back(RandomRow(rng, ids[i], model.leases[{ids[i], batch.holder}]));
      // As the carry-over left it, before it, or after it.
      batch.rows.back().limit_version = std::max<std::int64_t>(
          1, counter.limit_version + static_cast<std::int64_t>(rng() % 3) - 1);
      changes.carry_overs.push_back(RandomCarry(rng, ids[i], counter));
    }
    if (rng() % 8 == 0) {
      REQUIRE(store->RetireHolder(batch.holder, LeaseState::kLost).ok());
      model.Retire(batch.holder, LeaseState::kLost);
    }
    const std::string expected = DumpAll(model.Settle(batch));
    REQUIRE(DumpAll(MustSettle(*store, batch)) == expected);
    model.Carry(changes.carry_overs);
    MustApply(*store, changes);
    const auto counters = Must(store->ReadCounters(ids));
    REQUIRE(counters.size() == ids.size());
    for (std::size_t i = 0; i < ids.size(); ++i) {
      REQUIRE(Dump(counters[i]) == Dump(model.counters[ids[i]]));
      if (counters[i].forgiven != 0 && counters[i].added != 0) ++carried;
    }
  }
  if (rounds >= 100) CHECK(carried > 0);
  CHECK(DumpAll(Must(ReadAllEvents(*store, 0))) == DumpAll(model.events));
}

void SettleHistories(const StoreUnderTest& under) {
  std::shared_ptr<QuotaStore> store;
  std::int64_t after_seq = 0;
  const SettleTarget target{
      .settle = [&](HolderId holder, absl::Time now,
                    const SettleRow& row) -> absl::StatusOr<SettleReply> {
        auto replies = store->Settle({.holder = holder, .now = now, .rows = {row}});
        if (!replies.ok()) return replies.status();
        if (replies->size() != 1) return absl::InternalError("not one reply for one row");
        return replies->front();
      },
      .retire = [&](HolderId holder, LeaseState end) { return store->RetireHolder(holder, end); },
      .read = [&](const CounterId& id) -> absl::StatusOr<Counter> {
        auto counters = store->ReadCounters(std::span(&id, 1));
        if (!counters.ok()) return counters.status();
        if (counters->size() != 1) return absl::InternalError("not one counter for one id");
        return counters->front();
      },
      .events = [&]() { return ReadAllEvents(*store, after_seq); }};
  const std::int64_t histories = std::min(under.histories_max, Scaled(3000));
  std::int64_t exact = 0;
  for (std::int64_t seed = 1; seed <= histories; ++seed) {
    // A hundred lives in one store: retiring a holder may look at all leases.
    if (seed % 100 == 1) {
      store = under.open_new();
      after_seq = 0;
    }
    const HistoryOutcome outcome =
        RunSettleHistory(target, static_cast<std::uint32_t>(seed), absl::StrCat("k:", seed));
    REQUIRE_MESSAGE(outcome.failure.empty(), outcome.failure);
    exact += outcome.exact ? 1 : 0;
    for (const Event& event : Must(ReadAllEvents(*store, after_seq))) after_seq = event.seq;
  }
  MESSAGE(absl::StrCat(under.name, ": settle histories with seeds 1 to ", histories, ", ", exact,
                       " ended at exactly the limit"));
}

void RepeatedSettle(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {NewKey("k1", "free")}});
  SettleBatch batch{.holder = HolderId{9}, .now = At(5), .rows = {NewRow("k:1", 1, 0, 0, 90)}};
  MustSettle(*store, batch);
  batch.rows = {NewRow("k:1", 2, 60, 90, 10), NewRow("k:2", 1, 0, 0, 5)};
  batch.usage = {{"k1", {.start = At(0), .allowed = 60, .units = 60}}};
  batch.activity = {{"k1", At(4), "state"}};
  const std::string replies = DumpAll(MustSettle(*store, batch));
  const std::vector<CounterId> ids = {{"k:1", At(0)}, {"k:2", At(0)}};
  const auto look = [&] {
    std::string text = Snapshot(*store) + DumpAll(Must(store->ReadUsage({})));
    for (const Counter& counter : Must(store->ReadCounters(ids))) text += Dump(counter);
    return text;
  };
  const std::string after = look();
  for (int i = 0; i < 3; ++i) {
    CHECK(DumpAll(MustSettle(*store, batch)) == replies);
    CHECK(look() == after);
  }
  CHECK(Must(ReadAllEvents(*store, 0)).size() == 1);
}

void CountersInOrder(const StoreUnderTest& under) {
  const auto store = under.open_new();
  SettleBatch batch{.holder = HolderId{9}, .now = At(5)};
  for (std::int64_t i = 0; i < 9; ++i) {
    batch.rows.push_back(NewRow(absl::StrCat("k:", i), 1, 0, 0, i + 1));
  }
  MustSettle(*store, batch);
  const std::vector<CounterId> ids = {{"k:7", At(0)}, {"k:none", At(0)}, {"k:0", At(0)},
                                      {"k:7", At(1)}, {"k:7", At(0)},    {"", At(0)},
                                      {"K:7", At(0)}, {"k:3", At(0)}};
  const std::vector<std::int64_t> charged = {8, 0, 1, 0, 8, 0, 0, 4};
  const auto counters = Must(store->ReadCounters(ids));
  REQUIRE(counters.size() == ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    CHECK(counters[i].charged == charged[i]);
    if (charged[i] == 0) CHECK(Dump(counters[i]) == Dump(Counter{}));
  }
  CHECK(Must(store->ReadCounters({})).empty());
}

// A row that is refused is as if it had not been sent, and does not stop the others.
void RefusedRow(const StoreUnderTest& under) {
  const auto store = under.open_new();
  const SettleBatch batch{
      .holder = HolderId{9},
      .now = At(5),
      .rows = {NewRow("k:1", 1, 5, 5, 9), NewRow("k:2", 1, 0, 0, 9), NewRow("k:3", -1, 0, 0, 9)}};
  const auto replies = MustSettle(*store, batch);
  CHECK(replies[0].code == SettleCode::kInvalid);
  CHECK(replies[1].code == SettleCode::kApplied);
  CHECK(replies[2].code == SettleCode::kStale);
  const std::vector<CounterId> ids = {{"k:1", At(0)}, {"k:2", At(0)}, {"k:3", At(0)}};
  const auto counters = Must(store->ReadCounters(ids));
  CHECK(Dump(counters[0]) == Dump(Counter{}));
  CHECK(counters[1].charged == 9);
  CHECK(Dump(counters[2]) == Dump(Counter{}));
}

void RetiresEveryLease(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Model model;
  for (const HolderId holder : kHolders) {
    SettleBatch batch{.holder = holder, .now = At(5)};
    for (const std::string& subject : kSubjects) {
      batch.rows.push_back(NewRow(subject, 1, 0, 0, 20));
    }
    MustSettle(*store, batch);
    model.Settle(batch);
    for (SettleRow& row : batch.rows) {
      row = NewRow(row.counter.subject, 2, 7, 20, 0);
      row.close = row.counter.subject == "k:2";
      if (row.close) row.keep = 7;
    }
    MustSettle(*store, batch);
    model.Settle(batch);
  }
  std::vector<CounterId> ids;
  for (const std::string& subject : kSubjects) ids.push_back({subject, At(0)});
  const auto check = [&] {
    const auto counters = Must(store->ReadCounters(ids));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      CHECK(Dump(counters[i]) == Dump(model.counters[ids[i]]));
    }
  };
  CHECK(store->RetireHolder(HolderId{77}, LeaseState::kClosed).ok());
  check();
  for (int i = 0; i < 2; ++i) {
    CHECK(store->RetireHolder(kHolders[1], LeaseState::kClosed).ok());
    model.Retire(kHolders[1], LeaseState::kClosed);
    check();
    CHECK(store->RetireHolder(kHolders[2], LeaseState::kLost).ok());
    model.Retire(kHolders[2], LeaseState::kLost);
    check();
  }
  CHECK(Must(store->ReadCounters(ids))[0].open_leases == 1);
  SettleBatch late{.holder = kHolders[1], .now = At(6), .rows = {NewRow("k:1", 3, 9, 9, 20)}};
  CHECK(MustSettle(*store, late)[0].code == SettleCode::kStale);
  late.holder = kHolders[2];
  CHECK(MustSettle(*store, late)[0].code == SettleCode::kApplied);
}

// Ends what is due by `now` in steps of `rows_max`, on the store and on the model.
std::int64_t EndAll(QuotaStore& store, Model& model, absl::Time now, std::int32_t rows_max) {
  std::int64_t ended = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::int64_t rows = Must(store.EndPeriods(now, rows_max));
    CHECK(rows <= rows_max);
    ended += rows;
    if (rows < rows_max) break;
  }
  std::int64_t expected = 0;
  for (auto& [id, counter] : model.counters) {
    if (ApplyPeriodEnd(id, now, counter, model.events)) ++expected;
  }
  if (ended != 0) CHECK(ended == expected);
  return ended;
}

// By id, for rows that end at one time have no order.
std::multiset<std::string> SetOf(const std::vector<Event>& events) {
  std::multiset<std::string> texts;
  for (const Event& event : events) texts.insert(Dump(event));
  return texts;
}

void EndsPeriods(const StoreUnderTest& under) {
  const auto store = under.open_new();
  Model model;
  SettleBatch batch{.holder = HolderId{9}, .now = At(5)};
  for (std::int64_t i = 0; i < 20; ++i) {
    SettleRow row = NewRow(absl::StrCat("k:", i), 1, i, i, 0);
    row.sole = true;
    row.counter.period_start = At(i % 4 * kDay);
    row.period_end = At((i % 4 + 1) * kDay);
    if (i == 7) row.period_end = std::nullopt;
    row.owner_id = absl::StrCat("owner ", i);
    row.key_id = absl::StrCat("key ", i);
    batch.rows.push_back(row);
  }
  MustSettle(*store, batch);
  model.Settle(batch);
  CHECK(Must(store->EndPeriods(At(kDay) - absl::Milliseconds(1), 3)) == 0);
  // Those of the first day, but for number 0, which used nothing.
  if (EndAll(*store, model, At(kDay), 3) == 0) return Skip(under, "EndPeriods");
  const auto check = [&] {
    CHECK(SetOf(Must(ReadAllEvents(*store, 0))) == SetOf(model.events));
    for (const auto& [id, counter] : model.counters) {
      CHECK(Dump(Must(store->ReadCounters(std::span(&id, 1))).at(0)) == Dump(counter));
    }
  };
  check();
  CHECK(EndAll(*store, model, At(kDay), 3) == 0);
  // Used after its end was reached, and told once.
  batch.rows.resize(1);
  batch.rows[0].seq = 2;
  batch.rows[0].used = batch.rows[0].keep = 4;
  MustSettle(*store, batch);
  model.Settle(batch);
  CHECK(EndAll(*store, model, At(kDay), 1) == 1);
  CHECK(EndAll(*store, model, At(3 * kDay), 4) == 10);
  CHECK(EndAll(*store, model, At(4 * kDay), 4) == 4);
  CHECK(EndAll(*store, model, At(400 * kDay), 4) == 0);
  check();
  // What a holder had is counted as used when it is lost.
  SettleRow row = NewRow("k:lost", 1, 0, 0, 10);
  batch = {.holder = HolderId{10}, .now = At(5), .rows = {row}};
  MustSettle(*store, batch);
  model.Settle(batch);
  CHECK(EndAll(*store, model, At(400 * kDay), 4) == 0);
  CHECK(store->RetireHolder(HolderId{10}, LeaseState::kLost).ok());
  model.Retire(HolderId{10}, LeaseState::kLost);
  CHECK(EndAll(*store, model, At(400 * kDay), 4) == 1);
  check();
  std::vector<absl::Time> ends;
  for (const Event& event : Must(ReadAllEvents(*store, 0))) {
    if (event.type == event_type::kQuotaReset) ends.push_back(event.at);
  }
  CHECK(ends.size() == 20);
  CHECK(std::is_sorted(ends.begin(), ends.end()));
}

void NewestTime(const StoreUnderTest& under) {
  const auto store = under.open_new();
  if (Must(store->ReadNewestTime()) == absl::InfiniteFuture()) return Skip(under, "ReadNewestTime");
  CHECK(Must(store->ReadNewestTime()) == absl::InfinitePast());
  SettleBatch batch{.holder = HolderId{9}, .now = At(50), .rows = {NewRow("k:1", 1, 0, 0, 10)}};
  MustSettle(*store, batch);
  CHECK(Must(store->ReadNewestTime()) == At(50));
  batch.now = At(5);
  batch.rows.front().counter.period_start = At(4 * kDay);
  MustSettle(*store, batch);
  CHECK(Must(store->ReadNewestTime()) == At(4 * kDay));
  batch.rows.front().seq = 2;
  batch.now = At(5 * kDay);
  MustSettle(*store, batch);
  CHECK(Must(store->ReadNewestTime()) == At(5 * kDay));
}

struct StoredHour {
  std::string key_id;
  std::string owner_id;
  UsageBucket hour;
};

// The rows that match, summed by an arithmetic of its own: UTC hours and days are whole multiples.
std::string SumOf(const std::vector<StoredHour>& hours, const UsageQuery& query) {
  const auto start_of = [&](absl::Time time) {
    if (query.bucket == Period::kMonth) {
      const absl::CivilMonth month(absl::ToCivilSecond(time, absl::UTCTimeZone()));
      return absl::FromCivil(month, absl::UTCTimeZone());
    }
    const std::int64_t length = query.bucket == Period::kDay ? kDay : kHour;
    return absl::FromUnixSeconds(absl::ToUnixSeconds(time) / length * length);
  };
  std::map<absl::Time, UsageBucket> sums;
  for (const StoredHour& row : hours) {
    if (!query.key_id.empty() && row.key_id != query.key_id) continue;
    if (!query.owner_id.empty() && row.owner_id != query.owner_id) continue;
    if (query.from && row.hour.start < start_of(*query.from)) continue;
    if (query.to && row.hour.start >= *query.to) continue;
    UsageBucket& sum = sums[start_of(row.hour.start)];
    sum.start = start_of(row.hour.start);
    sum.allowed += row.hour.allowed;
    sum.units += row.hour.units;
    sum.rate_limited += row.hour.rate_limited;
    sum.quota_exceeded += row.hour.quota_exceeded;
    sum.refused_otherwise += row.hour.refused_otherwise;
  }
  std::string text;
  for (const auto& [start, sum] : sums) text += Dump(sum);
  return text;
}

std::vector<StoredHour> WriteUsage(QuotaStore& store) {
  MustApply(store, {.put_plans = {NewPlan("free")},
                    .put_keys = {NewKey("k1", "free"), NewKey("k2", "free"),
                                 NewKey("k3", "free", "globex")}});
  std::vector<StoredHour> all;
  std::int64_t n = 1;
  for (const HolderId holder : {HolderId{1}, HolderId{~std::uint64_t{0}}}) {
    SettleBatch batch{.holder = holder, .now = At(80 * kDay)};
    for (const std::string key : {"k1", "k2", "k3"}) {
      // Across hours, days and the end of January and February, newest first.
      for (const std::int64_t hour :
           {1417L, 1416L, 1415L, 744L, 743L, 720L, 25L, 24L, 23L, 1L, 0L}) {
        n = n * 7 % 1'000'003;
        const UsageBucket row{.start = At(hour * kHour),
                              .allowed = n,
                              .units = n * 3,
                              .rate_limited = n % 11,
                              .quota_exceeded = n % 13,
                              .refused_otherwise = n % 17};
        batch.usage.push_back({key, row});
        all.push_back({key, key == "k3" ? "globex" : "acme", row});
      }
    }
    MustSettle(store, batch);
  }
  return all;
}

void UsageSums(const StoreUnderTest& under) {
  const auto store = under.open_new();
  CHECK(Must(store->ReadUsage({})).empty());
  const std::vector<StoredHour> hours = WriteUsage(*store);
  const std::vector<std::optional<absl::Time>> instants = {std::nullopt,
                                                           At(0),
                                                           At(1),
                                                           At(24 * kHour),
                                                           At(24 * kHour + 1),
                                                           At(25 * kHour - 1),
                                                           At(743 * kHour + 1800),
                                                           At(744 * kHour),
                                                           At(1416 * kHour),
                                                           At(99 * kDay)};
  for (const std::string key : {"", "k1", "k3", "none"}) {
    for (const std::string owner : {"", "acme", "globex", "nobody"}) {
      for (const Period bucket : {Period::kHour, Period::kDay, Period::kMonth}) {
        for (const auto& from : instants) {
          for (const auto& to : instants) {
            const UsageQuery query{key, owner, from, to, bucket};
            CAPTURE(key);
            CAPTURE(owner);
            CAPTURE(static_cast<int>(bucket));
            CHECK(DumpAll(Must(store->ReadUsage(query))) == SumOf(hours, query));
          }
        }
      }
    }
  }
  CHECK(Must(ListAllKeys(*store, {})).size() == 3);
}

void NewestNumbersReplace(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")}, .put_keys = {NewKey("k1", "free")}});
  const auto put = [&](std::uint64_t holder, std::int64_t units) {
    MustSettle(*store, {.holder = HolderId{holder},
                        .now = At(5),
                        .usage = {{"k1", {.start = At(0), .units = units}}}});
    return Must(store->ReadUsage({.key_id = "k1"}))[0].units;
  };
  CHECK(put(1, 10) == 10);
  CHECK(put(2, 5) == 15);
  CHECK(put(1, 12) == 17);
  CHECK(put(1, 3) == 8);
  CHECK(put(2, kInt64Max - 3) == kInt64Max);
}

void ActivityIsWritten(const StoreUnderTest& under) {
  const auto store = under.open_new();
  MustApply(*store, {.put_plans = {NewPlan("free")},
                     .put_keys = {NewKey("k1", "free"), NewKey("k2", "free")}});
  const std::string state = std::string("\0\xff'", 3) + std::string(1021, 'x');
  for (const std::int64_t second : {5, 6}) {
    MustSettle(*store, {.holder = HolderId{1},
                        .now = At(second),
                        .activity = {{"k1", At(second), state}, {"nobody", At(second), "x"}}});
    KeyRecord expected = NewKey("k1", "free");
    expected.key.last_used_at = At(second);
    expected.detector_state = state;
    const std::vector<std::string> ids = {"k1"};
    CHECK(Dump(Must(store->ReadKeys(ids))[0]) == Dump(expected));
    CHECK(Must(ListAllKeys(*store, {})).size() == 2);
  }
  const std::vector<std::string> other = {"k2"};
  CHECK(Dump(Must(store->ReadKeys(other))[0]) == Dump(NewKey("k2", "free")));
}

}  // namespace

std::span<const StorePromise> CountingPromises() {
  static constexpr std::array kPromises = {
      StorePromise{"For each row, atomically: load the counter and this holder's lease, "
                   "ApplySettle, write both and the events",
                   &SettleIsApplySettle},
      StorePromise{"ApplyCarryOver on each of these counters, which is written if that says so",
                   &CarryOverIsApplyCarryOver},
      StorePromise{"charged: never above the limit by a grant (random histories)",
                   &SettleHistories},
      StorePromise{"Repeating a call, with the same arguments, after an unknown outcome has the "
                   "effect of one call (Settle)",
                   &RepeatedSettle},
      StorePromise{"Replies in the order of the rows", &RefusedRow},
      StorePromise{"The counters, in order; a default-constructed one where none is stored",
                   &CountersInOrder},
      StorePromise{"The newest `now` and period_start of all that was settled", &NewestTime},
      StorePromise{"ApplyRetire on every open lease of `holder`", &RetiresEveryLease},
      StorePromise{"ApplyPeriodEnd, and its events, in one transaction, for counters that are due "
                   "for it, at most `rows_max`",
                   &EndsPeriods},
      StorePromise{"Hourly rows that match, summed over holders, and over keys when no key is "
                   "asked for, in `query.bucket`s, by time",
                   &UsageSums},
      StorePromise{"the newest numbers of a holder replace its older ones", &NewestNumbersReplace},
      StorePromise{"Writes usage and activity", &ActivityIsWritten},
  };
  return kPromises;
}

}  // namespace throttl::testing
