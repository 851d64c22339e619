#include "tests/settle/settle_history.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace throttl::testing {
namespace {

constexpr int kSteps = 400;
constexpr std::size_t kHolders = 3;
const std::vector<std::int32_t> kPercents = {50, 90, 100};

struct Holder {
  HolderId id = {};
  std::int64_t seq = 0;
  std::int64_t used = 0;
  std::int64_t allowance = 0;
  bool pending = false;  // `last` was not answered yet
  SettleRow last = {};
};

class History {
 public:
  History(const SettleTarget& target, std::uint32_t seed, const std::string& subject)
      : target_(target),
        seed_(seed),
        counter_{subject, absl::FromUnixSeconds(1767225600)},
        rng_(seed) {
    limit_ = 1 + Roll(400);
    limit_high_ = limit_;
    changes_limits_ = Roll(4) == 0;
    loses_holders_ = Roll(3) == 0;
  }

  HistoryOutcome Run() {
    while (holders_.size() < kHolders) holders_.push_back({.id = NewHolderId()});
    for (step_ = 0; step_ < kSteps && outcome_.failure.empty(); ++step_) Step();
    if (outcome_.failure.empty() && !changes_limits_) DemandAll();
    if (outcome_.failure.empty()) CheckEvents();
    return outcome_;
  }

 private:
  int Roll(int sides) { return static_cast<int>(rng_() % static_cast<unsigned>(sides)); }

  void Expect(bool holds, const std::string& what) {
    if (holds || !outcome_.failure.empty()) return;
    outcome_.failure = absl::StrCat("seed ", seed_, ", step ", step_, ": ", what, " does not hold");
  }

  HolderId NewHolderId() {
    return HolderId{(std::uint64_t{seed_} << 20) + static_cast<std::uint64_t>(++holder_ids_)};
  }

  SettleRow NewRow(Holder& holder, std::int64_t keep) {
    SettleRow row{.counter = counter_,
                  .period_end = counter_.period_start + absl::Hours(24 * 31),
                  .limit = limit_,
                  .limit_version = limit_version_,
                  .alert_percents = kPercents,
                  .owner_id = "acme",
                  .key_id = "key"};
    row.seq = ++holder.seq;
    row.used = holder.used;
    row.keep = keep;
    row.refused = row.seq % 7 == 0;
    return row;
  }

  absl::StatusOr<SettleReply> Call(HolderId holder, const SettleRow& row) {
    ++outcome_.settles;
    auto reply = target_.settle(holder, counter_.period_start + absl::Hours(1), row);
    Expect(reply.ok(), absl::StrCat("Settle answers OK: ", reply.status().ToString()));
    if (!reply.ok()) return reply;
    Expect(reply->charged_to_all <= limit_high_, "charged_to_all <= limit");
    std::int64_t& applied = applied_seq_[holder];
    if (reply->code == SettleCode::kApplied && row.seq > applied) {
      applied = row.seq;
      ExpectEvents(row, *reply);
    }
    return reply;
  }

  // Which events there are after a call was applied, computed without rounding.
  void ExpectEvents(const SettleRow& row, const SettleReply& reply) {
    Expect(reply.limit.has_value(), "the reply tells the limit");
    if (!reply.limit.has_value()) return;
    const auto expect = [&](auto what) {
      expected_events_.insert(absl::StrCat(counter_.subject, ".",
                                           absl::ToUnixSeconds(counter_.period_start), ".", what,
                                           ".", reply.limit_version));
    };
    const std::int64_t used = reply.used_by_all + reply.forfeited;
    for (const std::int32_t percent : kPercents) {
      if (used * 100 >= *reply.limit * percent) expect(percent);
    }
    const bool refused = row.refused && row.limit_version == reply.limit_version;
    if (refused || used >= *reply.limit) expect("exceeded");
  }

  void Send(Holder& holder, const SettleRow& row, bool lose_reply) {
    const auto reply = Call(holder.id, row);
    if (!reply.ok()) return;
    Expect(reply->code == SettleCode::kApplied, "a holder's newest call is applied");
    if (lose_reply) return;
    holder.allowance = reply->allowance;
    holder.pending = false;
  }

  void Step() {
    Holder& holder = holders_[static_cast<std::size_t>(Roll(static_cast<int>(kHolders)))];
    const int what = Roll(100);
    if (what < 50) {
      Admit(holder);
    } else if (what < 55) {
      if (!holder.pending && holder.used > 0) Adjust(holder);
    } else if (what < 88) {
      SettleOne(holder);
    } else if (what < 92) {
      if (!in_flight_.empty()) ArriveLate();
    } else if (what < 95) {
      Die(holder);
    } else if (changes_limits_ && what < 97) {
      limit_ = 1 + Roll(400);
      ++limit_version_;
      limit_high_ = std::max(limit_high_, limit_);
    }
    Expect(admitted_ <= limit_high_, "admitted <= limit");
    CheckCounter();
  }

  void Admit(Holder& holder) {
    const std::int64_t cost = 1 + Roll(3);
    if (holder.used + cost > holder.allowance) return;
    holder.used += cost;
    admitted_ += cost;
  }

  void Adjust(Holder& holder) {
    const std::int64_t back = 1 + Roll(static_cast<int>(std::min<std::int64_t>(holder.used, 3)));
    holder.used -= back;
    admitted_ -= back;
  }

  void SettleOne(Holder& holder) {
    if (!holder.pending) {
      // What is given back is taken from the holder before the call is sent.
      holder.allowance = Roll(3) == 0 ? holder.used : holder.allowance;
      SettleRow row = NewRow(holder, holder.allowance);
      row.want = Roll(2) ? Roll(60) : 0;
      row.want_min = Roll(3);
      holder.last = row;
      holder.pending = true;
      if (Roll(4) == 0) in_flight_.emplace_back(holder.id, row);
    }
    if (Roll(5)) Send(holder, holder.last, Roll(5) == 0);
  }

  // A copy of an old call arrives, maybe of a holder that was retired meanwhile.
  void ArriveLate() {
    const auto& [holder, row] =
        in_flight_[static_cast<std::size_t>(Roll(static_cast<int>(in_flight_.size())))];
    const std::int64_t charged_before = ReadCharged();
    const auto reply = Call(holder, row);
    if (!reply.ok() || !retired_.contains(holder)) return;
    Expect(reply->code == SettleCode::kStale, "a call of a retired holder is stale");
    Expect(ReadCharged() == charged_before, "a stale call changes nothing");
  }

  void Die(Holder& holder) {
    if (loses_holders_) {
      const absl::Status status = target_.retire(holder.id, LeaseState::kLost);
      Expect(status.ok(), "RetireHolder answers OK");
      lost_any_ = true;
    } else {
      // Its lease table was read, so what it spent is known.
      if (holder.pending && Roll(2)) Send(holder, holder.last, false);
      if (holder.pending) in_flight_.emplace_back(holder.id, holder.last);
      const SettleRow row = NewRow(holder, holder.allowance);
      Send(holder, row, false);
      SettleRow late = row;  // sent, and not arrived yet
      late.seq = ++holder.seq;
      late.want = 20;
      in_flight_.emplace_back(holder.id, late);
      const absl::Status status = target_.retire(holder.id, LeaseState::kClosed);
      Expect(status.ok(), "RetireHolder answers OK");
      retired_.insert(holder.id);
    }
    holder = Holder{.id = NewHolderId()};
  }

  std::int64_t ReadCharged() {
    const auto counter = target_.read(counter_);
    Expect(counter.ok(), "ReadCounters answers OK");
    return counter.ok() ? counter->charged : -1;
  }

  void CheckCounter() {
    const auto counter = target_.read(counter_);
    Expect(counter.ok(), "ReadCounters answers OK");
    if (!counter.ok()) return;
    Expect(counter->forfeited >= 0, "forfeited >= 0");
    Expect(counter->used + counter->forfeited <= counter->charged, "used + forfeited <= charged");
  }

  // Persistent demand ends at exactly the limit, less what is forfeited.
  void DemandAll() {
    for (int round = 0; round < 50; ++round) {
      for (Holder& holder : holders_) {
        if (holder.pending) Send(holder, holder.last, false);
        SpendAll(holder);
        holder.allowance = holder.used;
        SettleRow row = NewRow(holder, holder.used);
        row.want = 20;
        Send(holder, row, false);
      }
    }
    for (Holder& holder : holders_) {
      SpendAll(holder);
      SettleRow row = NewRow(holder, holder.used);
      row.close = true;
      Send(holder, row, false);
    }
    Expect(admitted_ <= limit_, "admitted <= limit under persistent demand");
    const auto counter = target_.read(counter_);
    Expect(counter.ok() && counter->charged == limit_,
           "persistent demand charges all of the limit");
    if (lost_any_ || !counter.ok()) return;
    Expect(admitted_ == limit_, "persistent demand admits exactly the limit");
    Expect(counter->used == limit_ && counter->forfeited == 0, "used is what was admitted");
    Expect(counter->open_leases == 0, "no lease is open when all are closed or retired");
    outcome_.exact = true;
  }

  void SpendAll(Holder& holder) {
    if (holder.used >= holder.allowance) return;
    admitted_ += holder.allowance - holder.used;
    holder.used = holder.allowance;
  }

  // An event exists if and only if its threshold was crossed, or the limit exceeded.
  void CheckEvents() {
    const auto log = target_.events();
    Expect(log.ok(), "ReadEvents answers OK");
    if (!log.ok()) return;
    std::set<std::string> seen;
    for (const Event& event : *log) {
      Expect(seen.insert(event.id).second, absl::StrCat("event ", event.id, " comes once"));
      const bool exceeded = absl::StrContains(event.id, ".exceeded.");
      Expect(event.type == (exceeded ? event_type::kQuotaExceeded : event_type::kQuotaThreshold) &&
                 event.owner_id == "acme" && event.key_id == "key",
             absl::StrCat("event ", event.id, " tells type, owner and key"));
    }
    Expect(seen == expected_events_, "each threshold that was crossed has one event");
    outcome_.events = static_cast<std::int64_t>(seen.size());
  }

  const SettleTarget& target_;
  const std::uint32_t seed_;
  const CounterId counter_;
  std::mt19937 rng_;
  int step_ = 0;
  int holder_ids_ = 0;
  std::int64_t limit_ = 0;
  std::int64_t limit_version_ = 1;
  std::int64_t limit_high_ = 0;  // the highest so far
  std::int64_t admitted_ = 0;
  bool changes_limits_ = false;
  bool loses_holders_ = false;
  bool lost_any_ = false;
  std::vector<Holder> holders_;
  std::vector<std::pair<HolderId, SettleRow>> in_flight_;
  std::set<HolderId> retired_;
  std::map<HolderId, std::int64_t> applied_seq_;
  std::set<std::string> expected_events_;
  HistoryOutcome outcome_;
};

}  // namespace

HistoryOutcome RunSettleHistory(const SettleTarget& target, std::uint32_t seed,
                                const std::string& subject) {
  return History(target, seed, subject).Run();
}

}  // namespace throttl::testing
