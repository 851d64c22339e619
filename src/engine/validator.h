// A Validator decides whether a secret may make a request now, and spends for it.
//
// In its stride it takes no lock, allocates nothing and makes no system call: it finds the key in
// the process's index, and spends by one swap in the lease table. What it does not have in hand it
// fetches inside a call of the gate, so that a fork waits for it.
//
// Thread safety: all methods from any thread, and after fork in parent and child.
//
//   const Decision decision = validator.Decide(secret, request, Mode::kSpend);
#ifndef THROTTL_SRC_ENGINE_VALIDATOR_H_
#define THROTTL_SRC_ENGINE_VALIDATOR_H_

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/base/attributes.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl/decision.h"
#include "throttl/engine.h"

#include "src/base/call_gate.h"
#include "src/base/sip_hash.h"
#include "src/base/tick_clock.h"
#include "src/engine/engine_context.h"
#include "src/engine/key_index.h"
#include "src/engine/key_loader.h"
#include "src/engine/key_rules.h"
#include "src/engine/rate_pass.h"
#include "src/engine/request_counts.h"
#include "src/engine/settler.h"
#include "src/lease/lease_table.h"

namespace throttl::internal {

struct ValidatorParts {
  const EngineContext& context;
  LeaseTable& table;
  KeyIndex& index;
  Settler& settler;
  CallGate& gate;
  SipKey sip_key = {};
};

// The counts begin a line of their own, which costs padding.
class Validator {  // NOLINT(clang-analyzer-optin.performance.Padding)
 public:
  enum class Mode : std::uint8_t { kSpend = 1, kPeek = 2 };

  // All that `parts` names outlives this.
  explicit Validator(const ValidatorParts& parts);

  // What Engine::Validate (kSpend) and Engine::Peek promise.
  Decision Decide(std::string_view secret, const Request& request, Mode mode) noexcept;
  // What Engine::Adjust promises.
  std::int64_t Adjust(Decision& decision, std::int64_t actual_cost) noexcept;

  // Applies what other processes, or this one, have changed.
  void CatchUp();

  const RequestCounts& counts() const { return counts_; }
  // Of the coarse clock where the engine has the system's.
  std::int64_t NowMs() const;

  // Around a fork.
  void LockForFork() { rules_.Lock(); }
  void UnlockAfterFork() { rules_.Unlock(); }

 private:
  enum class Next : std::uint8_t {
    kGoOn = 1,
    kAgain = 2,    // something has changed since the try began
    kDecided = 3,  // by Passage::code
  };

  // The system's clock has a coarse form, which ticks every 4 ms and takes a quarter of the time.
  enum class Grain : std::uint8_t { kCoarse = 1, kFine = 2 };
  class Clock final : public RatePass::RateClock {
   public:
    explicit Clock(const Validator& validator) : validator_(validator) {}
    void Use(Grain grain) { grain_ = grain; }
    std::int64_t ReadNs() const override { return validator_.ReadMonotonicNs(grain_); }
    std::int64_t ReadFineNs() const override { return validator_.ReadMonotonicNs(Grain::kFine); }

   private:
    const Validator& validator_;
    Grain grain_ = Grain::kCoarse;
  };
  std::int64_t ReadMonotonicNs(Grain grain) const;

  // One request on its way.
  struct Passage {
    // So that `found` is not cleared with the rest.
    Passage(std::string_view its_secret, const Request& its_request, Mode its_mode)
        : secret(its_secret), request(its_request), mode(its_mode) {}

    std::string_view secret;
    const Request& request;
    Mode mode;
    KeyIndex::Target target = {};
    bool issued = true;  // as in SecretShape
    bool read = false;   // all of the secret was, for its shape
    SipTag tag = {};
    std::int64_t now_ms = 0;
    std::int64_t now_ns = 0;       // the same reading
    std::int64_t rate_now_ns = 0;  // of the clock of rate limits, at that moment
    std::uint64_t generation = 0;
    KeyIndex::Found found;
    bool known = false;  // `found` is the key of this secret
    DecisionCode code = DecisionCode::kStoreUnavailable;

    Next Decide(DecisionCode why) {
      code = why;
      return Next::kDecided;
    }
  };
  // REQUIRES: the clock is the system's.
  Next RefineClock(Passage& passage, Decision& decision) const;

  // What a request in its stride goes through: made one with Decide, since calls, and passing on in
  // memory what they share, would be a sixth of its time.
#define THROTTL_IN_STRIDE ABSL_ATTRIBUTE_ALWAYS_INLINE inline
  // One reading, for quotas and rate limits.
  THROTTL_IN_STRIDE void ReadClock(Passage& passage);
  THROTTL_IN_STRIDE Next Begin(Passage& passage);
  THROTTL_IN_STRIDE Next TryOnce(Passage& passage, Decision& decision);
  THROTTL_IN_STRIDE Next CheckIdentity(Passage& passage, Decision& decision);
  THROTTL_IN_STRIDE Next SpendQuota(Passage& passage, Decision& decision);
  // What the quota's counter said, to the request's end or to its next try.
  THROTTL_IN_STRIDE Next TakeAnswer(Passage& passage, const SpendAnswer& answer,
                                    Decision& decision);
  THROTTL_IN_STRIDE Next SpendRates(Passage& passage, RatePass& rates, SpendAnswer& quota,
                                    Decision& decision);
  THROTTL_IN_STRIDE Next LookAtAll(Passage& passage, RatePass& rates, SpendAnswer& quota,
                                   Decision& decision);
  THROTTL_IN_STRIDE void FillQuota(const Passage& passage, const SpendAnswer& answer,
                                   Decision& decision) const;
  THROTTL_IN_STRIDE Next CheckExpiry(Passage& passage) const;
  THROTTL_IN_STRIDE void Finish(const Passage& passage, Decision& decision);
#undef THROTTL_IN_STRIDE
  Next ReadSecret(Passage& passage);
  Next CheckRules(Passage& passage, const Decision& decision);
  // With rate limits: all limits, in one decision.
  Next SpendAll(Passage& passage, Decision& decision);
  Next StopAtLook(Passage& passage, RatePass& rates, bool rates_fit, const SpendAnswer& quota,
                  Decision& decision);
  static UnitSpend SpendOf(const Passage& passage) {
    return {
        .cost = passage.request.cost, .now_ms = passage.now_ms, .generation = passage.generation};
  }
  // Until the period ends; RatePass::kNever where waiting does not help.
  static std::int64_t QuotaWaitNs(const Passage& passage, const SpendAnswer& answer);
  static Next RefuseRate(Passage& passage, const RatePass& rates, Decision& decision);
  Next LookWithoutQuota(Passage& passage, RatePass& rates, bool rates_fit, Decision& decision);
  Next RefuseQuota(Passage& passage, const SpendAnswer& answer, Decision& decision);
  Next ReadClockAgain(Passage& passage, Decision& decision);
  Next CountUnderOwner(Passage& passage, const SpendAnswer& spent, Decision& decision);

  // The slow parts, each inside a call of the gate.
  Next CatchUpFirst(Passage& passage);
  Next LoadKey(Passage& passage);
  Next ForgetRules(const Decision& decision);
  // What a limit could not be asked: by the failure policy.
  Next Fail(const absl::Status& status, Passage& passage, Decision& decision);
  Next FindSlots(Passage& passage, Decision& decision);
  absl::Status TryFindSlots(const Passage& passage, const Decision& decision);
  absl::StatusOr<SlotRef> SlotOf(const SlotTarget& target);
  // std::nullopt: something changed meanwhile. Cancelled: the limit did, and the generation tells.
  absl::StatusOr<std::optional<SlotRef>> TrySlotOf(SlotTarget& target);
  absl::StatusOr<std::int64_t> ReadStart(const FoundSlot& found, SlotTarget& target);

  const EngineContext& context_;
  LeaseTable& table_;
  KeyIndex& index_;
  Settler& settler_;
  CallGate& gate_;
  const SipKey sip_key_;
  const bool uses_system_clock_;
  TickClock tick_clock_;
  RulesCache rules_;
  KeyLoader loader_;
  RequestCounts counts_;
  std::atomic<std::uint64_t> generation_;  // of the table, that the index is current to
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_VALIDATOR_H_
