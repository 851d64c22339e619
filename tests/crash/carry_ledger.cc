#include "tests/crash/carry_ledger.h"

#include <algorithm>
#include <chrono>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/quota_store.h"

#include "tests/crash/shared_clock.h"

namespace throttl::testing {
namespace {

constexpr std::array<const char*, kCarryPlans> kPlanIds = {"team", "spare", "pool"};
constexpr std::size_t kTeam = 0;
constexpr std::size_t kPool = 2;
constexpr std::int64_t kMinuteMs = 60'000;
// Of one request: a lock that was not to be had in time, which a host repeats.
constexpr int kWaitsMax = 100;
constexpr std::array<std::int64_t, 5> kLimits = {40, 700, 9'000, 90'000, 2'000'000};

std::string KeyIdOf(std::size_t secret) { return absl::StrCat("key_", secret); }

std::string SubjectOf(std::size_t subject) {
  return subject == kPoolSubject ? "o:pool:acme" : absl::StrCat("k:", KeyIdOf(subject));
}

CounterId CounterOf(std::size_t subject) {
  return {.subject = SubjectOf(subject), .period_start = absl::FromUnixMillis(kCarryStartMs)};
}

std::size_t PlanOf(const CarryLedger& ledger, std::size_t subject) {
  if (subject == kMovingSubject) return ledger.moving_on;
  return subject == kPoolSubject ? kPool : kTeam;
}

Plan PlanWith(std::size_t plan, std::int64_t limit) {
  Plan with{.id = kPlanIds[plan], .quota = Quota{.limit = limit}};
  if (plan == kPool) with.quota->scope = QuotaScope::kOwner;
  return with;
}

std::int64_t DrawLimit(std::mt19937_64& random) {
  const std::int64_t most = kLimits[random() % kLimits.size()];
  return most / 2 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(most / 2)) + 1;
}

// --- The model

bool IsBoundary(const CarryChange& change, std::size_t subject) {
  return change.happened && (change.concerned >> subject & 1) != 0 &&
         change.carry_over != CarryOver::kDifference;
}

// What the header promises of one subject.
struct Model {
  std::int64_t limit = 0;
  CarryRange used = {};
  CarryRange added = {};

  std::int64_t Carried(CarryOver carry_over, std::int64_t units, std::int64_t new_limit,
                       std::int64_t old_added) const {
    if (carry_over == CarryOver::kReset) return 0;
    if (carry_over != CarryOver::kProportional) return units;
    return units * new_limit / (limit + old_added);
  }

  // `surely` more units were allowed before or after it, and `perhaps` were.
  void Change(const CarryChange& change, std::int64_t surely, std::int64_t perhaps) {
    const CarryRange was = used;
    const CarryRange had = added;
    const auto carried = [&](std::int64_t units, std::int64_t old_added) {
      return Carried(change.carry_over, units, change.limit, old_added);
    };
    used.lo = std::min(carried(was.lo + surely, had.hi), carried(was.lo, had.hi) + surely);
    const std::int64_t all = surely + perhaps;
    used.hi = std::max(carried(was.hi + all, had.lo), carried(was.hi, had.lo) + all);
    if (change.carry_over == CarryOver::kAdditive) {
      added = {std::max(limit + had.lo, was.lo), std::max(limit + had.hi, was.hi + all)};
    } else {
      added = {};
    }
    limit = change.limit;
  }
};

// The segments of a subject lie between the changes that make a difference to it. What lies in two
// that follow each other is of one of them; what lies in more is counted in each, at most.
struct Segments {
  std::vector<std::int64_t> within = {};
  std::vector<std::int64_t> across = {};  // of the segment and the one after it
  std::vector<std::int64_t> perhaps_within = {};
  std::vector<std::int64_t> perhaps_across = {};
};

struct Span {
  std::size_t first = 0;
  std::size_t last = 0;
};

void AddUnits(const Span& span, std::int64_t units, bool is_sure, Segments& segments) {
  if (units == 0) return;
  if (span.first == span.last) {
    (is_sure ? segments.within : segments.perhaps_within)[span.first] += units;
  } else if (is_sure && span.last == span.first + 1) {
    segments.across[span.first] += units;
  } else {
    for (std::size_t i = span.first; i < span.last; ++i) segments.perhaps_across[i] += units;
  }
}

Segments SegmentsOf(const CarryLedger& ledger, std::size_t subject, CarryRange& total) {
  const std::size_t changes = ledger.begun;
  std::vector<std::size_t> segment_of(changes + 1);
  for (std::size_t i = 1; i <= changes; ++i) {
    segment_of[i] = segment_of[i - 1] + (IsBoundary(ledger.changes[i], subject) ? 1 : 0);
  }
  const std::vector<std::int64_t> none(segment_of[changes] + 1);
  Segments segments{none, none, none, none};
  for (std::size_t ended = 0; ended <= changes; ++ended) {
    for (std::size_t begun = ended; begun <= changes; ++begun) {
      const Span span{segment_of[ended], segment_of[begun]};
      const std::int64_t units = ledger.units[subject][ended][begun];
      const std::int64_t perhaps = ledger.perhaps[subject][ended][begun];
      AddUnits(span, units, /*is_sure=*/true, segments);
      AddUnits(span, perhaps, /*is_sure=*/false, segments);
      total.lo += units;
      total.hi += units + perhaps;
    }
  }
  return segments;
}

// --- Changes

CarryChange DrawChange(Engine& engine, const CarryLedger& ledger, CarryOver carry_over,
                       std::mt19937_64& random) {
  CarryChange change{.carry_over = carry_over, .moves_to = ledger.moving_on};
  const std::uint64_t dice = random() % 8;
  if (dice == 0 || dice == 1) {
    change.plan = kCarryPlans;
    change.subject = dice == 0 ? kMovingSubject : kOwnSubject;
    change.concerned = 1U << change.subject;
    change.version = engine.GetKey(KeyIdOf(change.subject))->version + 1;
    if (dice == 0) change.moves_to = 1 - ledger.moving_on;
    change.limit = dice == 0 ? ledger.limits[change.moves_to] : DrawLimit(random);
    return change;
  }
  change.plan = dice == 2 ? 1 : (dice == 3 ? kPool : kTeam);
  for (std::size_t subject = 0; subject < kCarrySubjects; ++subject) {
    const bool concerned = subject != kOwnSubject && PlanOf(ledger, subject) == change.plan;
    if (concerned) change.concerned |= 1U << subject;
  }
  change.version = ledger.versions[change.plan] + 1;
  change.limit = random() % 4 == 0 ? ledger.limits[change.plan] : DrawLimit(random);
  return change;
}

absl::Status Make(Engine& engine, const CarryChange& change) {
  if (change.plan < kCarryPlans) {
    Plan plan = PlanWith(change.plan, change.limit);
    plan.version = change.version - 1;
    return engine.PutPlan(plan, {}, change.carry_over).status();
  }
  auto key = engine.GetKey(KeyIdOf(change.subject));
  if (!key.ok()) return key.status();
  if (change.subject == kOwnSubject) {
    key->quota->limit = change.limit;
  } else {
    key->plan_id = kPlanIds[change.moves_to];
  }
  return engine.UpdateKey(*key, {}, change.carry_over).status();
}

void NoteHappened(CarryLedger& ledger, CarryChange& change) {
  change.happened = true;
  ledger.moving_on = change.moves_to;
  if (change.plan == kCarryPlans) return;
  ledger.limits[change.plan] = change.limit;
  ledger.versions[change.plan] = change.version;
}

// --- Checks

std::int64_t HistoryOf(Engine& engine, std::size_t secret) {
  const auto hours = engine.UsageHistory({.key_id = KeyIdOf(secret), .bucket = Period::kHour});
  REQUIRE_MESSAGE(hours.ok(), hours.status().ToString());
  std::int64_t units = 0;
  for (const UsageBucket& hour : *hours) units += hour.units;
  return units;
}

QuotaState UsageOf(Engine& engine, std::size_t subject) {
  const auto usage = engine.GetUsage(KeyIdOf(subject));
  REQUIRE_MESSAGE(usage.ok(), usage.status().ToString());
  return usage->quota;
}

std::int64_t RemainingOf(const CarryBase& base) {
  return std::max<std::int64_t>(0, base.limit + base.added - base.used);
}

void CheckSubject(Engine& engine, const CarryLedger& ledger, std::size_t subject,
                  const QuotaState& before_settle, CarryBase& base) {
  const CarryState state = CarryStateOf(ledger, subject);
  const QuotaState usage = UsageOf(engine, subject);
  CHECK(usage.used == before_settle.used);
  CHECK(usage.limit == before_settle.limit);
  const CounterId id = CounterOf(subject);
  const auto counters = engine.store()->ReadCounters(std::span(&id, 1));
  REQUIRE_MESSAGE(counters.ok(), counters.status().ToString());
  const Counter& counter = counters->front();
  CHECK(usage.used >= state.used.lo);
  CHECK(usage.used <= state.used.hi);
  CHECK(usage.limit.value_or(-1) == state.limit + counter.added);
  CHECK(counter.added >= state.added.lo);
  CHECK(counter.added <= state.added.hi);
  CHECK(counter.used >= state.total.lo);
  CHECK(counter.used <= state.total.hi);
  CHECK(counter.used - counter.forgiven == usage.used);
  CHECK(counter.charged == counter.used);
  CHECK(counter.forfeited == 0);
  std::int64_t history = HistoryOf(engine, subject);
  if (subject == kPoolSubject) history += HistoryOf(engine, kCarrySubjects);
  const std::int64_t unseen = counter.used - history;
  const std::int64_t died = subject == kPoolSubject ? state.total.hi - state.total.lo : 0;
  CHECK(unseen >= base.unseen);
  CHECK(unseen <= base.unseen + died);
  base = {state.limit, usage.used, counter.added, counter.used, unseen};
}

void ForgetUnits(CarryLedger& ledger) {
  const std::size_t changes = ledger.begun;
  for (auto* all : {&ledger.units, &ledger.perhaps}) {
    for (auto& units : *all) {
      for (std::size_t ended = 0; ended <= changes; ++ended) {
        for (std::size_t begun = 0; begun <= changes; ++begun) units[ended][begun] = 0;
      }
    }
  }
  ledger.begun = 0;
  ledger.ended = 0;
}

CarryTotals TotalsOf(const CarryLedger& ledger) {
  CarryTotals totals;
  for (std::size_t subject = 0; subject < kCarrySubjects; ++subject) {
    const CarryState state = CarryStateOf(ledger, subject);
    if (state.used.lo != state.used.hi || state.added.lo != state.added.hi) ++totals.inexact;
    for (std::size_t ended = 0; ended <= ledger.begun; ++ended) {
      for (std::size_t begun = ended; begun <= ledger.begun; ++begun) {
        const std::int64_t units = ledger.units[subject][ended][begun];
        totals.units += units;
        if (begun != ended) totals.overlap += units;
      }
    }
  }
  return totals;
}

bool DrainAll(Engine& engine, CarryLedger& ledger, CarryLane& lane) {
  for (std::size_t secret = 0; secret <= kCarrySubjects; ++secret) {
    // In steps, each until it is refused.
    for (const std::int64_t cost : {std::int64_t{5'000}, std::int64_t{70}, std::int64_t{1}}) {
      for (bool allowed = true; allowed;) {
        if (!SpendCarry(engine, ledger, lane, {secret, cost}, &allowed)) return false;
      }
    }
  }
  return true;
}

}  // namespace

std::unique_ptr<Engine> OpenCarryEngine(const std::string& path, CarryLedger& ledger,
                                        bool settle_thread) {
  auto engine = Engine::Open(path, {.settle_thread = settle_thread,
                                    .settle_interval = absl::Milliseconds(10),
                                    .clock = std::make_shared<SharedClock>(ledger.now_ms)});
  if (engine.ok()) return *std::move(engine);
  ledger.report.Add("open: " + engine.status().ToString());
  return nullptr;
}

void MakeCarrySubjects(Engine& engine, CarryLedger& ledger) {
  for (std::size_t plan = 0; plan < kCarryPlans; ++plan) {
    ledger.limits[plan] = 1000;
    const auto put = engine.PutPlan(PlanWith(plan, 1000));
    REQUIRE_MESSAGE(put.ok(), put.status().ToString());
    ledger.versions[plan] = put->version;
  }
  ledger.moving_on = kTeam;
  for (std::size_t secret = 0; secret <= kCarrySubjects; ++secret) {
    Key key{.owner_id = "acme", .plan_id = "team", .id = KeyIdOf(secret)};
    if (secret >= kPoolSubject) key.plan_id = "pool";
    if (secret == kOwnSubject) key.quota = Quota{.limit = 1000};
    const auto issued = engine.CreateKey(key);
    REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
    issued->secret.Reveal().copy(ledger.secrets[secret].data(), ledger.secrets[secret].size() - 1);
    ledger.bases[std::min(secret, kPoolSubject)] = {.limit = 1000};
  }
}

bool SpendCarry(Engine& engine, CarryLedger& ledger, CarryLane& lane, const CarrySpend& spend,
                bool* allowed) {
  const std::size_t subject = std::min(spend.secret, kPoolSubject);
  const std::string_view secret = ledger.secrets[spend.secret].data();
  for (int waits = 0; waits < kWaitsMax; ++waits) {
    const std::size_t ended = ledger.ended;
    lane.ended_before = ended;
    lane.cost = spend.cost;
    lane.subject = static_cast<std::int64_t>(subject) + 1;
    const Decision d = engine.Validate(secret, {.cost = spend.cost});
    if (d.allowed()) ledger.units[subject][ended][ledger.begun].fetch_add(spend.cost);
    lane.subject = 0;
    if (allowed != nullptr) *allowed = d.allowed();
    if (d.allowed() || d.code == DecisionCode::kQuotaExceeded) return true;
    if (d.code == DecisionCode::kStoreUnavailable) continue;
    ledger.report.Add(absl::StrCat("code ", static_cast<int>(d.code)));
    return false;
  }
  ledger.report.Add("unavailable: " + engine.stats().last_store_error.ToString());
  return false;
}

void SpendByMode(Engine& engine, CarryLedger& ledger, CarryLane& lane, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  for (bool goes_on = true; goes_on;) {
    lane.busy = true;
    const CarryMode mode = ledger.mode;
    const std::int64_t drain = ledger.drains;
    if (mode == CarryMode::kStop) {
      goes_on = false;
    } else if (mode == CarryMode::kSpend) {
      std::size_t secret = random() % (kCarrySubjects + 1);
      if (secret == kIdleSubject) secret = 0;
      const auto cost = static_cast<std::int64_t>(random() % 6);
      goes_on = SpendCarry(engine, ledger, lane, {secret, cost});
    } else if (mode == CarryMode::kDrain && lane.drained != drain) {
      goes_on = DrainAll(engine, ledger, lane);
      lane.drained = drain;
    } else {
      lane.busy = false;
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }
  lane.busy = false;
}

std::string ChangeOnce(Engine& engine, CarryLedger& ledger, CarryOver carry_over,
                       std::mt19937_64& random) {
  const std::size_t number = ledger.begun + 1;
  REQUIRE(number <= kCarryChangesMax);
  CarryChange& change = ledger.changes[number];
  change = DrawChange(engine, ledger, carry_over, random);
  ledger.begun = number;
  const absl::Status status = Make(engine, change);
  if (!status.ok()) return "change: " + status.ToString();
  NoteHappened(ledger, change);
  ledger.ended = number;
  // Slots are turned for another reason too.
  if (random() % 4 == 0) ledger.now_ms.fetch_add(10 * kMinuteMs);
  return "";
}

void RestAll(CarryLedger& ledger) {
  ledger.mode = CarryMode::kRest;
  for (CarryLane& lane : ledger.lanes) {
    while (lane.busy) std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

void BuryLane(CarryLedger& ledger, CarryLane& lane) {
  const std::int64_t subject = lane.subject.exchange(0);
  lane.busy = false;
  if (subject == 0) return;
  ledger.perhaps[static_cast<std::size_t>(subject - 1)][lane.ended_before][ledger.begun].fetch_add(
      lane.cost);
}

void ResolveChange(Engine& engine, CarryLedger& ledger) {
  if (ledger.ended == ledger.begun) return;
  CarryChange& change = ledger.changes[ledger.begun];
  const std::int64_t version = change.plan < kCarryPlans
                                   ? engine.GetPlan(kPlanIds[change.plan])->version
                                   : engine.GetKey(KeyIdOf(change.subject))->version;
  if (version == change.version) {
    NoteHappened(ledger, change);
  } else {
    CHECK(version == change.version - 1);
  }
  ledger.ended = ledger.begun.load();
}

CarryState CarryStateOf(const CarryLedger& ledger, std::size_t subject) {
  const CarryBase& base = ledger.bases[subject];
  CarryState state{.total = {base.total, base.total}};
  const Segments segments = SegmentsOf(ledger, subject, state.total);
  Model model{
      .limit = base.limit, .used = {base.used, base.used}, .added = {base.added, base.added}};
  std::size_t segment = 0;
  const auto count_within = [&] {
    model.used.lo += segments.within[segment];
    model.used.hi += segments.within[segment] + segments.perhaps_within[segment];
  };
  for (std::size_t i = 1; i <= ledger.begun; ++i) {
    const CarryChange& change = ledger.changes[i];
    if (!change.happened || (change.concerned >> subject & 1) == 0) continue;
    if (!IsBoundary(change, subject)) {
      model.limit = change.limit;
      continue;
    }
    count_within();
    model.Change(change, segments.across[segment], segments.perhaps_across[segment]);
    ++segment;
  }
  count_within();
  state.limit = model.limit;
  state.used = model.used;
  state.added = model.added;
  return state;
}

CarryTotals CheckCarryAtRest(Engine& engine, CarryLedger& ledger) {
  REQUIRE_MESSAGE(ledger.report.count() == 0, ledger.report.Text());
  const CarryTotals totals = TotalsOf(ledger);
  std::array<QuotaState, kCarrySubjects> usages;
  for (std::size_t subject = 0; subject < kCarrySubjects; ++subject) {
    usages[subject] = UsageOf(engine, subject);
  }
  const absl::Status flushed = engine.Flush();
  REQUIRE_MESSAGE(flushed.ok(), flushed.ToString());
  for (std::size_t subject = 0; subject < kCarrySubjects; ++subject) {
    CAPTURE(subject);
    CheckSubject(engine, ledger, subject, usages[subject], ledger.bases[subject]);
  }
  ForgetUnits(ledger);
  return totals;
}

CarryTotals DrainCarry(Engine& engine, CarryLedger& ledger, std::size_t lanes) {
  const std::array<CarryBase, kCarrySubjects> before = ledger.bases;
  const std::int64_t drain = ledger.drains.fetch_add(1) + 1;
  ledger.mode = CarryMode::kDrain;
  for (std::size_t lane = 0; lane < lanes; ++lane) {
    while (ledger.lanes[lane].drained != drain && ledger.report.count() == 0) {
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  }
  RestAll(ledger);
  const CarryTotals totals = CheckCarryAtRest(engine, ledger);
  for (std::size_t subject = 0; subject < kCarrySubjects; ++subject) {
    CAPTURE(subject);
    CHECK(ledger.bases[subject].total - before[subject].total == RemainingOf(before[subject]));
    CHECK(ledger.bases[subject].used - before[subject].used == RemainingOf(before[subject]));
    CHECK(RemainingOf(ledger.bases[subject]) == 0);
  }
  return totals;
}

}  // namespace throttl::testing
