// What a slot of the lease table knows beside its units, and how a change of period, hour or limit
// turns it into the next state.
//
// A slot counts one subject in one period, and the key's hour within it. Its counters never go back
// to zero: an hour is what they grew by since its marks. When a period or an hour ends, its total
// is carried in the slot until a settle has written it, so the end itself needs no store.
//
// Thread safety: pure functions on values.
//
//   const SlotTurn turn = TurnSlot(old_state, totals, aim);
#ifndef THROTTL_SRC_LEASE_SLOT_STATE_H_
#define THROTTL_SRC_LEASE_SLOT_STATE_H_

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <vector>

namespace throttl::internal {

// The end of a period that never ends, in milliseconds since the epoch.
inline constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();
// In place of a limit.
inline constexpr std::int64_t kNoLimit = -1;

// A period as one word: its end in whole seconds since the epoch, and its length.
class PackedPeriod {
 public:
  PackedPeriod() = default;  // one that never ends
  explicit PackedPeriod(std::uint64_t word) : word_(word) {}
  // REQUIRES: whole seconds, from 1970 to the year 10,000. The length of one that lasts more than
  // 388 days is not kept.
  static PackedPeriod Of(std::int64_t start_s, std::int64_t end_ms) {
    if (end_ms == kNever) return PackedPeriod();
    const std::int64_t end_s = end_ms / 1000;
    const std::int64_t length_s = end_s - start_s;
    const bool fits = length_s > 0 && length_s < std::int64_t{1} << kLengthBits;
    return PackedPeriod((static_cast<std::uint64_t>(end_s) << kLengthBits) |
                        static_cast<std::uint64_t>(fits ? length_s : 0));
  }

  std::uint64_t word() const { return word_; }
  bool ends() const { return word_ != kEndless; }
  // REQUIRES: it ends.
  std::int64_t end_s() const { return static_cast<std::int64_t>(word_ >> kLengthBits); }
  std::int64_t length_s() const {  // 0: not known
    return static_cast<std::int64_t>(word_ & ((std::uint64_t{1} << kLengthBits) - 1));
  }
  std::int64_t end_ms() const { return ends() ? end_s() * 1000 : kNever; }

  friend bool operator==(const PackedPeriod&, const PackedPeriod&) = default;

 private:
  static constexpr int kLengthBits = 25;
  static constexpr std::uint64_t kEndless = ~std::uint64_t{0};
  std::uint64_t word_ = kEndless;
};

// Up to eight thresholds of 1 to 1000 percent, 16 bits each, 0 after the last one.
using PackedPercents = std::array<std::uint64_t, 2>;
// REQUIRES: at most 8 values of 1..1000.
PackedPercents PackPercents(std::span<const std::int32_t> percents);
std::vector<std::int32_t> UnpackPercents(const PackedPercents& packed);

// Why a request was refused, as far as the usage history tells them apart.
enum class RefusalKind : std::uint8_t { kRateLimited = 0, kQuotaExceeded = 1, kOtherwise = 2 };
inline constexpr std::size_t kRefusalKinds = 3;

// All structs below consist of 64-bit words, since they lie in shared memory.

// A period that is over, and what this table used of it.
struct PeriodTotal {
  // 0: there is none; 1 more when a request was refused under this limit.
  std::int64_t present = 0;
  std::int64_t start_s = 0;  // of the period, seconds since the epoch
  std::int64_t end_ms = 0;   // milliseconds since the epoch, or kNever
  std::int64_t limit = kNoLimit;
  std::int64_t limit_version = 0;
  PackedPercents alert_percents = {};
  std::int64_t used = 0;  // units

  bool refused() const { return present > 1; }
};

// What one key did in one hour, as far as this table counted it.
struct HourTotal {
  std::int64_t present = 0;
  std::int64_t hour = 0;     // hours since the epoch
  std::int64_t allowed = 0;  // requests
  std::int64_t units = 0;
  std::array<std::int64_t, kRefusalKinds> refused = {};  // requests, by RefusalKind
};

struct SlotState {
  std::int64_t period_start_s = 0;
  std::int64_t period_end_ms = kNever;
  std::int64_t limit = kNoLimit;
  std::int64_t limit_version = 0;
  PackedPercents alert_percents = {};
  std::int64_t base = 0;  // units of the period that others have used or been granted
  // The first version with this limit, by which the store knows it: a key that was only renamed
  // crosses no threshold twice.
  std::int64_t limit_since = 0;
  // When the slot began: the subject may have been counted before in periods that began by then.
  std::int64_t known_to_ms = 0;
  // With which limit_version the period came: less than limit_version where only the limit could be
  // taken from a lagging clock.
  std::int64_t period_version = 0;
  std::int64_t soft_percent = 0;  // as in Quota
  // As in Counter, and carries_seen of the aim with which they came.
  std::int64_t forgiven = 0;
  std::int64_t added = 0;
  std::int64_t carries_seen = 0;

  std::int64_t hour = 0;
  std::int64_t hour_units_before = 0;  // of the hour, spent in the period before this one
  std::int64_t units_mark = 0;         // the counters when the hour or the period began
  std::int64_t surplus_mark = 0;
  std::array<std::int64_t, kRefusalKinds> refused_mark = {};

  PeriodTotal carried_period = {};
  HourTotal carried_hour = {};
};

// The counters of a slot.
struct SlotTotals {
  std::int64_t units = 0;    // spent in the period
  std::int64_t surplus = 0;  // units beyond one for each request that was allowed
  std::array<std::int64_t, kRefusalKinds> refused = {};
  // Twice the number of this period and limit in the slot, never used again, and 1 more when a
  // request was refused for it.
  std::uint64_t quota_turn = 0;
};

constexpr bool QuotaRefused(std::uint64_t quota_turn) { return (quota_turn & 1) != 0; }

// What a slot shall be.
struct SlotAim {
  std::int64_t period_start_s = 0;
  std::int64_t period_end_ms = kNever;
  std::int64_t limit = kNoLimit;  // 0..kLimitMax, or kNoLimit
  std::int64_t soft_percent = 0;
  std::int64_t limit_version = 0;
  std::int64_t period_version = 0;  // set by PlanSlot; of a slot that begins: limit_version
  PackedPercents alert_percents = {};
  std::int64_t base = 0;
  std::int64_t forgiven = 0;  // as in Counter
  std::int64_t added = 0;
  // Carry-overs that may have changed those of the subject in the store: how many there are, and
  // how many the values surely include.
  std::int64_t carries = 0;
  std::int64_t carries_seen = 0;
  std::int64_t units = 0;  // to start with in another period than the slot's; else ignored
  // As in SlotState, where the store knows the limit already; else 0.
  std::int64_t limit_since = 0;
  std::int64_t known_to_ms = 0;  // of a slot that begins; else ignored
  std::int64_t hour = 0;         // the running one
};

// What a slot needs before it can serve an aim.
enum class SlotNeed : std::uint8_t {
  kNothing = 1,  // it is there already, or ahead
  kTurn = 2,     // to be turned to SlotPlan::aim
  kStore = 3,    // the same, with base, units, forgiven and added as the store has them
  kSettle = 4,   // that the period which it carries is settled first
};

struct SlotPlan {
  SlotNeed need = SlotNeed::kNothing;
  SlotAim aim = {};
};

// How a slot in `state` comes to `wanted`. It takes a period that began later, an hour that began
// later, and a newer limit with its period. From a clock that lags so far that its period was over
// when the slot's began it takes the limit alone: the period, perhaps of another calendar, waits
// for a clock that does not lag. After a carry-over that the slot has not seen the store is asked
// for the period of SlotPlan::aim.
SlotPlan PlanSlot(const SlotState& state, const SlotAim& wanted);

struct SlotTurn {
  SlotState state = {};
  std::int64_t units = 0;
  std::int64_t granted = 0;         // units that may have been spent when the next is refused
  std::int64_t fresh_until_ms = 0;  // when the state must be turned again
  std::uint64_t quota_turn = 0;
};

// The state of a slot that begins to count a subject.
SlotTurn BeginSlot(const SlotTotals& totals, const SlotAim& aim);

// The state after `old`, whose counters stand at `totals` and no longer move. Another period than
// the old one is carried; an hour that has ended is carried too, unless one still is: then the old
// hour goes on, so that the sum stays right. An hour never goes back.
//
// REQUIRES: nothing is carried when the period is another one.
SlotTurn TurnSlot(const SlotState& old, const SlotTotals& totals, const SlotAim& aim);

// The running hour. Not negative, whatever was given back of an earlier one.
HourTotal RunningHour(const SlotState& state, const SlotTotals& totals);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_LEASE_SLOT_STATE_H_
