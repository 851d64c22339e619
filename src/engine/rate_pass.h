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

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <string_view>
#include <type_traits>

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
  bool Begin(const RateSet& set, const Request& request, std::string_view key_id);

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
  void Describe(absl::Time decided_at, RateState& state) const;

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
    const RateRule* rule = nullptr;
    std::uint64_t tag = 0;
    std::int64_t cost = 0;
    bool refuses = false;
    bool spent = false;
    FoundRate found = {};
    RateAnswer answer = {};
  };

  static_assert(std::is_trivially_destructible_v<Item>);
  Item& ItemAt(std::size_t i) {
    return *std::launder(reinterpret_cast<Item*>(storage_.data() + i * sizeof(Item)));
  }
  const Item& ItemAt(std::size_t i) const {
    return *std::launder(reinterpret_cast<const Item*>(storage_.data() + i * sizeof(Item)));
  }

  static std::uint64_t WordOf(const Item& item);
  void Ask(Item& item);
  Step SpendOne(Item& item);
  Step ClaimOne(const Item& item);
  void GiveBackOne(Item& item);
  FoundRate FindSettled(std::uint64_t tag);

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

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_RATE_PASS_H_
