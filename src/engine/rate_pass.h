// A RatePass takes one request through the rate limits that apply to it: all of them let it pass,
// and then it has spent from each, or it has spent from none.
//
// Look asks every limit; Spend goes from the narrowest to the widest and gives back what it took
// where another request was quicker. Nothing here waits for the store; what a limit needs once, a
// place in the rate table, is claimed under the table lock.
//
// Thread safety: one thread. Lies on the stack of its request.
//
//   RatePass pass(table, gate, clock);
//   pass.Begin(set, request, key_id);
//   if (!pass.Look(now_ns)) ...  // pass.wait_ns()
//   if (pass.Spend() == RatePass::Step::kSpent && !SpendTheQuota()) pass.GiveBack();
#ifndef THROTTL_SRC_ENGINE_RATE_PASS_H_
#define THROTTL_SRC_ENGINE_RATE_PASS_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <string_view>
#include <type_traits>

#include "absl/base/attributes.h"
#include "absl/status/status.h"

#include "throttl/decision.h"
#include "throttl/engine.h"

#include "src/base/call_gate.h"
#include "src/engine/rate_rules.h"
#include "src/lease/lease_table.h"

namespace throttl::internal {

class RatePass {
 public:
  // Reads the clock of rate limits, which never goes back, in nanoseconds.
  class RateClock {
   public:
    virtual std::int64_t ReadNs() const = 0;      // as the request was given it
    virtual std::int64_t ReadFineNs() const = 0;  // as fine as there is one

   protected:
    ~RateClock() = default;
  };

  enum class Step : std::uint8_t {
    kSpent = 1,
    kRaced = 2,   // others were quicker, and nothing is spent: Look again
    kLags = 3,    // nothing is spent: read the clock, and Look again
    kFailed = 4,  // nothing is spent: status()
  };

  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

  // All outlive this. A place is claimed inside a call of `gate`.
  RatePass(LeaseTable& table, CallGate& gate, const RateClock& clock)
      : table_(table), gate_(gate), clock_(clock) {}

  // `set` outlives this. Returns whether the fine clock must be read.
  bool Begin(const RateSet& set, const Request& request, const FixedString<kKeyIdBytesMax>& key_id);

  // Whether every limit lets the request pass at `now_ns`. Spends nothing.
  bool Look(std::int64_t now_ns);
  // No Spend follows: what is described from now on is what is there without the request.
  void Leave();
  // After a Look that let the request pass.
  Step Spend();
  // Undoes a Spend.
  void GiveBack();

  // After Look: of the refusing limit with the longest wait, in ns from now_ns, kNever when waiting
  // does not help; 0: none refuses.
  std::int64_t wait_ns() const { return wait_ns_; }
  // Shadow limits that would have refused.
  std::int64_t shadow_refusals() const { return shadow_refusals_; }
  const absl::Status& status() const { return status_; }

  // The limit that refuses, else the one with the smallest part left; unchanged when none applies.
  // `wall_now_ns` is the wall's time of the same moment.
  void Describe(std::int64_t wall_now_ns, RateState& state) const;

  // For those who explain a decision.
  struct Seen {
    const RateRule* rule = nullptr;
    bool refuses = false;  // also a shadow limit, which then counts nothing
    std::int64_t remaining = 0;
    std::int64_t rests_in_ns = 0;  // when all of it is there again
    std::int64_t wait_ns = 0;
  };
  std::size_t size() const { return size_; }
  Seen At(std::size_t i) const;

 private:
  struct Item {
    // Leaves to Ask what it fills in.
    Item(const RateRule& its_rule, std::uint64_t its_tag, std::int64_t its_cost, RateEntry* lead)
        : rule(&its_rule), tag(its_tag), cost(its_cost), entry(lead) {}

    const RateRule* rule;
    std::uint64_t tag;
    std::int64_t cost;
    bool spent = false;
    // As in FoundRate; nullptr: not in the table, or frozen.
    RateEntry* entry;
    std::uint64_t seen;  // its word; 0 where there is none
    std::int64_t since_ns;
    std::uint64_t word;    // RateAnswer::word
    std::int64_t wait_ns;  // as Seen has it
    bool refuses;
  };

  static_assert(std::is_trivially_destructible_v<Item>);
  Item& ItemAt(std::size_t i) {
    return *std::launder(reinterpret_cast<Item*>(storage_.data() + i * sizeof(Item)));
  }
  const Item& ItemAt(std::size_t i) const {
    return *std::launder(reinterpret_cast<const Item*>(storage_.data() + i * sizeof(Item)));
  }

  static FoundRate FoundOf(const Item& item) {
    return {.state = item.entry != nullptr ? RateLookup::kFound : RateLookup::kAbsent,
            .entry = item.entry,
            .tag = item.tag,
            .word = item.seen,
            .since_ns = item.since_ns};
  }
  void Ask(Item& item, const FoundRate& found);
  // The word without that of a clock that was ahead.
  void ClampWord(Item& item);
  void AskSlowly(Item& item);
  void NoteRefusal(std::size_t i);
  Step SpendSlowly(Item& item);
  Step ClaimOne(const Item& item);
  void GiveBackOne(Item& item);
  FoundRate FindSettled(std::uint64_t tag);
  const Item* FindLeast() const;

  LeaseTable& table_;
  CallGate& gate_;
  const RateClock& clock_;
  std::int64_t now_ns_ = 0;
  std::int64_t wait_ns_ = 0;
  std::int64_t shadow_refusals_ = 0;
  std::size_t refusing_ = 0;
  std::size_t size_ = 0;
  bool clock_went_back_ = false;
  absl::Status status_ = absl::OkStatus();
  // Begin makes the first `size_`: to make all would take as long as to use one.
  alignas(Item) std::array<std::byte, RateSet::kRulesMax * sizeof(Item)> storage_;
};

// The inline parts follow: they are what a request costs.

ABSL_ATTRIBUTE_ALWAYS_INLINE inline bool RatePass::Begin(
    const RateSet& set, const Request& request, const FixedString<kKeyIdBytesMax>& key_id) {
  size_ = 0;
  std::uint64_t left = set.Match({.method = request.method, .endpoint = request.endpoint});
  const bool wants_fine_clock = set.WantsFineClock(left);
  const std::uint64_t rate_key = table_.RateKeyOf(key_id);
  for (; left != 0; left &= left - 1) {
    const RateRule& rule = set.rules()[static_cast<std::size_t>(std::countr_zero(left))];
    const std::uint64_t tag = LeaseTable::RateTagOf(rate_key, rule.hash);
    const std::int64_t cost =
        rule.counts_requests ? std::min<std::int64_t>(request.cost, 1) : request.cost;
    new (storage_.data() + size_ * sizeof(Item)) Item(rule, tag, cost, table_.rates().Lead(tag));
    ++size_;
  }
  return wants_fine_clock;
}

// What the limit says of the request now. A GCRA word that is ahead of the clock refuses, and is
// then looked at again.
ABSL_ATTRIBUTE_ALWAYS_INLINE inline void RatePass::Ask(Item& item, const FoundRate& found) {
  const bool is_there = found.state == RateLookup::kFound;
  item.entry = is_there ? found.entry : nullptr;
  item.seen = is_there ? found.word : 0;
  item.since_ns = found.since_ns;
  const RateRule& rule = *item.rule;
  if (rule.slides || item.cost == 0) return AskSlowly(item);
  const RateAnswer answer = rule.Spend({.word = item.seen, .now_ns = now_ns_, .cost = item.cost});
  if (!answer.fits) return AskSlowly(item);
  item.word = answer.word;
  item.refuses = false;
  item.wait_ns = 0;
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline bool RatePass::Look(std::int64_t now_ns) {
  now_ns_ = now_ns;
  wait_ns_ = 0;
  shadow_refusals_ = 0;
  for (std::size_t i = 0; i < size_; ++i) {
    Item& item = ItemAt(i);
    Ask(item, table_.rates().FindLed(item.tag, item.entry));
    if (item.refuses) NoteRefusal(i);
  }
  return wait_ns_ == 0;
}

ABSL_ATTRIBUTE_ALWAYS_INLINE inline RatePass::Step RatePass::Spend() {
  for (std::size_t i = 0; i < size_; ++i) {
    Item& item = ItemAt(i);
    if (item.refuses || item.cost == 0) continue;
    Step step = Step::kSpent;
    if (item.entry != nullptr && RateTable::Swap(FoundOf(item), item.word)) {
      item.spent = true;
    } else {
      step = SpendSlowly(item);
    }
    THROTTL_FAULT_POINT("rates.spent");
    if (step == Step::kSpent) continue;
    GiveBack();
    return step;
  }
  return Step::kSpent;
}

inline void RatePass::Describe(std::int64_t wall_now_ns, RateState& state) const {
  const Item* const shown = wait_ns_ != 0                           ? &ItemAt(refusing_)
                            : size_ == 1 && !ItemAt(0).rule->shadow ? &ItemAt(0)
                                                                    : FindLeast();
  if (shown == nullptr) return;
  const RateRule& rule = *shown->rule;
  state.name = rule.name;
  state.limit = rule.limit;
  state.remaining = rule.Remaining(shown->word, now_ns_);
  state.window = rule.window;
  const std::int64_t rests_in_ns = rule.RestsAtNs(shown->word, now_ns_) - now_ns_;
  std::int64_t rests_at_ns = 0;
  // A word that is far ahead may say more than 64 bits hold.
  state.resets_at = __builtin_add_overflow(wall_now_ns, rests_in_ns, &rests_at_ns)
                        ? absl::FromUnixNanos(wall_now_ns) + absl::Nanoseconds(rests_in_ns)
                        : absl::FromUnixNanos(rests_at_ns);
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_RATE_PASS_H_
