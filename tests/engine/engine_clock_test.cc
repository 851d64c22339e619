// The clock jumps by a second to a hundred years, forth and back, at every point of a period, with
// settles and openings in between: a ledger of the decisions says that no period admits more than
// its limit, over everything, and each that is spent out exactly that.
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/civil_time.h"
#include "absl/time/time.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/quota_plans.h"
#include "tests/scale.h"
#include "tests/temp_dir.h"

namespace throttl::testing {
namespace {

constexpr std::int64_t kLimit = 4;
constexpr std::array kPeriods = {Period::kHour, Period::kDay, Period::kMonth, Period::kLifetime};

// Whose the quota is.
enum class Whose : std::uint8_t { kPlanKey, kPlanOwner, kOwnKey };
constexpr std::array kWhose = {Whose::kPlanKey, Whose::kPlanOwner, Whose::kOwnKey};

// The start of the period that holds `time`, or of a later one: not as the library computes it.
absl::Time StartOf(Period period, absl::Time time, int periods_on = 0) {
  const absl::TimeZone utc = absl::UTCTimeZone();
  switch (period) {
    case Period::kHour:
      return absl::FromCivil(absl::ToCivilHour(time, utc) + periods_on, utc);
    case Period::kDay:
      return absl::FromCivil(absl::ToCivilDay(time, utc) + periods_on, utc);
    case Period::kMonth:
      return absl::FromCivil(absl::ToCivilMonth(time, utc) + periods_on, utc);
    default:
      return periods_on == 0 ? absl::InfinitePast() : absl::InfiniteFuture();
  }
}

absl::Time EndOf(Period period, absl::Time time) { return StartOf(period, time, 1); }

// First, middle and last millisecond, the end, and just after it.
std::vector<absl::Time> PointsOf(Period period) {
  const absl::Time now =
      absl::FromCivil(absl::CivilSecond(2026, 2, 28, 12, 34, 56), absl::UTCTimeZone());
  if (period == Period::kLifetime) return {now};
  const absl::Time start = StartOf(period, now);
  const absl::Time end = EndOf(period, now);
  const absl::Duration ms = absl::Milliseconds(1);
  return {start, start + (end - start) / 2, end - ms, end, end + ms};
}

// Where the clock goes from `time`.
std::vector<absl::Time> JumpsFrom(absl::Time time) {
  std::vector<absl::Time> to;
  for (const absl::Duration by :
       {absl::Seconds(1), absl::Hours(1), absl::Hours(24), absl::Hours(400 * 24)}) {
    to.push_back(time + by);
    to.push_back(time - by);
  }
  const absl::TimeZone utc = absl::UTCTimeZone();
  to.push_back(absl::FromCivil(absl::CivilSecond(2038, 1, 19, 3, 14, 7), utc));
  to.push_back(absl::FromCivil(absl::CivilSecond(2038, 1, 19, 3, 14, 8), utc));
  to.push_back(absl::FromCivil(absl::CivilDay(2100, 1, 1), utc));
  return to;
}

// Whoever is counted together, and their secrets.
struct Subject {
  std::string name = {};
  std::vector<std::string> secrets = {};
  std::size_t turn = 0;  // of the secrets
};

class ClockTest {
 public:
  ClockTest(const std::string& store, Period period) : store_(store), period_(period) { Open(); }

  ManualClock& clock() { return *clock_; }
  absl::Time Now() { return clock_->Read().wall; }
  Period period() const { return period_; }

  Subject NewSubject(Whose whose) {
    Subject subject{.name = absl::StrCat("subject_", ++subjects_)};
    const std::int64_t count = whose == Whose::kPlanOwner ? 2 : 1;
    for (std::int64_t i = 0; i < count; ++i) {
      Key key{.owner_id = subject.name, .plan_id = whose == Whose::kPlanOwner ? "owner" : "key"};
      if (whose == Whose::kOwnKey) {
        key.plan_id = "free";
        key.quota = Quota{.limit = kLimit, .period = period_};
      }
      const auto issued = engine_->CreateKey(key);
      REQUIRE_MESSAGE(issued.ok(), issued.status().ToString());
      subject.secrets.emplace_back(issued->secret.Reveal());
    }
    return subject;
  }

  // One request, of the subject's next key.
  Decision Spend(Subject& subject) {
    const std::string& secret = subject.secrets[subject.turn++ % subject.secrets.size()];
    const Decision d = engine_->Validate(secret);
    absl::Time& newest = newest_.try_emplace(subject.name, Now()).first->second;
    newest = std::max(newest, Now());
    const absl::Time end = d.quota.resets_at.value_or(absl::InfiniteFuture());
    REQUIRE_MESSAGE((d.allowed() || d.code == DecisionCode::kQuotaExceeded),
                    CodeName(d.code) << " " << engine_->stats().last_store_error.ToString());
    REQUIRE(d.decided_at == Now());
    REQUIRE_FALSE(d.unmetered);
    // A clock that goes back reopens nothing: it spends in the newest period.
    REQUIRE(end == EndOf(period_, newest));
    if (d.allowed()) REQUIRE(++ledger_[{subject.name, end}] <= kLimit);
    REQUIRE(d.quota.used == ledger_[{subject.name, end}]);
    return d;
  }

  // Spends until the limit refuses. Without a loss that is exactly at the limit.
  void SpendOut(Subject& subject) {
    for (int i = 0; i <= kLimit; ++i) {
      if (!Spend(subject).allowed()) return;
    }
    FAIL("more was allowed than the limit");
  }

  void Flush() { REQUIRE(engine_->Flush().ok()); }

  void Reopen() {
    if (store_ == "memory:") return;
    REQUIRE(engine_->Close().ok());
    Open();
  }

  // Also makes the lease table anew: then the store alone knows which periods there were, and the
  // clock says which one goes on.
  void ReopenWithoutTable() {
    if (store_ == "memory:") return;
    REQUIRE(engine_->Close().ok());
    engine_ = nullptr;
    std::filesystem::remove(dir_.File("throttl.db-lease"));
    Open();
    newest_.clear();
  }

  std::int64_t admitted() const {
    std::int64_t sum = 0;
    for (const auto& [period, units] : ledger_) sum += units;
    return sum;
  }

  // The store says the same of every period as the ledger: of the hours in which units were spent.
  void CheckHistory(const Subject& subject) {
    Flush();
    const auto history =
        engine_->UsageHistory({.owner_id = subject.name, .bucket = Period::kMonth});
    REQUIRE(history.ok());
    std::int64_t stored = 0;
    for (const UsageBucket& bucket : *history) stored += bucket.units;
    std::int64_t told = 0;
    for (const auto& [period, units] : ledger_) told += period.first == subject.name ? units : 0;
    REQUIRE(stored == told);
  }

 private:
  void Open() {
    engine_ = nullptr;
    auto engine = Engine::Open(store_ == "memory:" ? store_ : dir_.File("throttl.db"),
                               {.settle_thread = false,
                                .history_kept = absl::InfiniteDuration(),
                                .seed_plans = QuotaPlans(),
                                .clock = clock_});
    REQUIRE_MESSAGE(engine.ok(), engine.status().ToString());
    engine_ = *std::move(engine);
    if (subjects_ > 0) return;
    const Quota quota{.limit = kLimit, .period = period_};
    REQUIRE(engine_->PutPlan({.id = "key", .quota = quota}).ok());
    Quota shared = quota;
    shared.scope = QuotaScope::kOwner;
    REQUIRE(engine_->PutPlan({.id = "owner", .quota = shared}).ok());
  }

  const std::string store_;
  const Period period_;
  const TempDir dir_;
  const std::shared_ptr<ManualClock> clock_ =
      std::make_shared<ManualClock>(absl::FromUnixSeconds(1'790'000'000));
  std::unique_ptr<Engine> engine_;
  int subjects_ = 0;
  // The newest clock that spent of each subject: its period is the one that goes on.
  std::map<std::string, absl::Time> newest_;
  std::map<std::pair<std::string, absl::Time>, std::int64_t> ledger_;
};

enum class Between : std::uint8_t { kNothing, kFlush, kReopen, kReopenWithoutTable };
constexpr std::array kBetween = {Between::kNothing, Between::kFlush, Between::kReopen,
                                 Between::kReopenWithoutTable};

void Do(Between between, ClockTest& t) {
  switch (between) {
    case Between::kNothing:
      return;
    case Between::kFlush:
      return t.Flush();
    case Between::kReopen:
      return t.Reopen();
    case Between::kReopenWithoutTable:
      return t.ReopenWithoutTable();
  }
}

// From a point of a period to another time and back, twice, and a little further each time.
void GoForthAndBack(ClockTest& t, Whose whose, absl::Time from, absl::Time to, Between between) {
  CAPTURE(absl::FormatTime(from, absl::UTCTimeZone()));
  CAPTURE(absl::FormatTime(to, absl::UTCTimeZone()));
  t.clock().JumpTo(from);
  Subject subject = t.NewSubject(whose);
  for (int i = 0; i < 2; ++i) REQUIRE(t.Spend(subject).allowed());
  t.clock().JumpTo(to);
  t.Spend(subject);
  Do(between, t);
  t.SpendOut(subject);
  t.clock().JumpTo(from);
  Do(between, t);
  t.SpendOut(subject);
  t.clock().Advance(absl::Milliseconds(1));
  t.SpendOut(subject);
  t.clock().JumpTo(to);
  t.SpendOut(subject);
  Do(between, t);
  t.clock().Advance(absl::Seconds(1));
  t.SpendOut(subject);
  t.CheckHistory(subject);
}

TEST_CASE("a clock that jumps at any point of a period admits nothing extra, and loses nothing") {
  // Opening takes long. A fifth comes to every jump in some way, and to every way at some jump.
  constexpr std::int64_t kReopensEvery = 5;
  std::int64_t jumps = 0;
  std::int64_t done = 0;
  std::int64_t admitted = 0;
  const std::int64_t stride = std::max<std::int64_t>(1, 100 / Scaled(100));
  for (const std::string store : {"memory:", "sqlite"}) {
    for (const Period period : kPeriods) {
      ClockTest t(store, period);
      CAPTURE(store);
      CAPTURE(std::string(PeriodName(period)));
      for (const absl::Time from : PointsOf(period)) {
        for (const absl::Time to : JumpsFrom(from)) {
          for (const Whose whose : kWhose) {
            for (const Between between : kBetween) {
              const bool reopens = between > Between::kFlush;
              if (reopens == (store == "memory:")) continue;
              if (++jumps % (reopens ? kReopensEvery * stride : stride) != 0) continue;
              ++done;
              CAPTURE(static_cast<int>(whose));
              CAPTURE(static_cast<int>(between));
              GoForthAndBack(t, whose, from, to, between);
            }
          }
        }
      }
      admitted += t.admitted();
    }
  }
  MESSAGE(done << " jumps forth and back, " << admitted << " units");
}

// A walk of the clock, with requests of a subject of each kind.
void Wander(ClockTest& t, std::mt19937_64& random) {
  constexpr int kSteps = 100;
  std::vector<Subject> subjects;
  for (const Whose whose : kWhose) subjects.push_back(t.NewSubject(whose));
  const std::vector<absl::Time> points = PointsOf(t.period());
  for (int step = 0; step < kSteps; ++step) {
    const std::uint64_t dice = random() % 100;
    if (dice < 60) {
      t.Spend(subjects[random() % subjects.size()]);
    } else if (dice < 75) {
      t.clock().JumpTo(points[random() % points.size()]);
    } else if (dice < 85) {
      // Now and then so far that the rest of the walk lags.
      const std::vector<absl::Time> to = JumpsFrom(points[random() % points.size()]);
      t.clock().JumpTo(to[random() % (step % 10 == 0 ? to.size() : 6)]);
    } else if (dice < 90) {
      t.clock().Advance(absl::Milliseconds(random() % 7'200'000));
    } else if (dice < 97) {
      t.Flush();
    } else if (dice < 99) {
      t.Reopen();
    } else {
      t.ReopenWithoutTable();
    }
  }
  for (const Subject& subject : subjects) t.CheckHistory(subject);
}

TEST_CASE("a clock that wanders admits nothing extra in any period over everything") {
  const std::uint64_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937_64 random(seed);
  const std::int64_t walks = Scaled(40);
  std::int64_t admitted = 0;
  for (const Period period : kPeriods) {
    CAPTURE(std::string(PeriodName(period)));
    for (std::int64_t walk = 0; walk < walks; ++walk) {
      ClockTest t("sqlite", period);
      Wander(t, random);
      admitted += t.admitted();
    }
  }
  MESSAGE((4 * walks) << " walks, " << admitted << " units, seed " << seed);
}

TEST_CASE("a table that is made anew while the clock lags grants no later period twice") {
  const TempDir dir;
  const absl::Time start = absl::FromUnixSeconds(1'790'000'000);
  const auto clock = std::make_shared<ManualClock>(start);
  std::string secret;
  int allowed = 0;
  const auto spend_out = [&](Engine& engine) {
    while (engine.Validate(secret).allowed()) ++allowed;
  };
  for (int opening = 0; opening < 2; ++opening) {
    const auto engine =
        Engine::Open(dir.File("throttl.db"),
                     {.settle_thread = false, .seed_plans = QuotaPlans(), .clock = clock});
    REQUIRE(engine.ok());
    if (opening == 0) {
      const auto issued = (*engine)->CreateKey(
          {.owner_id = "acme", .quota = Quota{.limit = kLimit, .period = Period::kHour}});
      REQUIRE(issued.ok());
      secret = issued->secret.Reveal();
    } else {
      clock->JumpTo(start - absl::Hours(1));
      REQUIRE((*engine)->Validate(secret).allowed());
      clock->JumpTo(start);
    }
    spend_out(**engine);
    REQUIRE((*engine)->Close().ok());
    std::filesystem::remove(dir.File("throttl.db-lease"));
  }
  CHECK(allowed == kLimit);
}

TEST_CASE("a subject whose slot was taken while the clock went back spends no later period twice") {
  constexpr int kSlotsAtFirst = 1024;
  const absl::Time day = absl::FromCivil(absl::CivilDay(2026, 9, 22), absl::UTCTimeZone());
  const auto clock = std::make_shared<ManualClock>(day);
  const auto engine =
      Engine::Open("memory:", {.settle_thread = false, .seed_plans = QuotaPlans(), .clock = clock});
  REQUIRE(engine.ok());
  const auto new_secret = [&] {
    const auto issued = (*engine)->CreateKey(
        {.owner_id = "acme", .quota = Quota{.limit = kLimit, .period = Period::kDay}});
    REQUIRE(issued.ok());
    return std::string(issued->secret.Reveal());
  };
  const std::string secret = new_secret();
  int allowed = 0;
  while ((*engine)->Validate(secret).allowed()) ++allowed;
  REQUIRE((*engine)->Flush().ok());
  clock->Advance(absl::Hours(2));
  for (int i = 0; i < kSlotsAtFirst; ++i) REQUIRE((*engine)->Validate(new_secret()).allowed());
  clock->JumpTo(day - absl::Hours(1));
  REQUIRE((*engine)->Validate(secret).allowed());
  clock->JumpTo(day + absl::Hours(3));
  while ((*engine)->Validate(secret).allowed()) ++allowed;
  CHECK(allowed == kLimit);
}

}  // namespace
}  // namespace throttl::testing
