#include "src/engine/validator.h"

#include <algorithm>
#include <new>
#include <vector>

#include "absl/strings/str_cat.h"

#include "throttl/quota_store.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"
#include "src/key/secret_format.h"

namespace throttl::internal {
namespace {

// Each try ends by a decision, or finds that something has changed since it began.
constexpr int kTriesMax = 64;
constexpr std::int64_t kSecondNs = 1'000'000'000;

// Decision::ticket: the claim of the slot; the slot, whether the quota is the owner's, and the end
// of the period in seconds, whose largest value stands for never.
constexpr int kTicketSlotShift = 34;
constexpr int kTicketOwnerShift = 33;
constexpr std::uint64_t kTicketNever = (std::uint64_t{1} << kTicketOwnerShift) - 1;

std::array<std::uint64_t, 2> TicketOf(SlotRef ref, bool of_owner, PackedPeriod period) {
  const std::uint64_t end =
      period.ends() ? static_cast<std::uint64_t>(period.end_s()) & kTicketNever : kTicketNever;
  return {ref.claim, (static_cast<std::uint64_t>(ref.slot) << kTicketSlotShift) |
                         (std::uint64_t{of_owner} << kTicketOwnerShift) | end};
}

// Where the store has the limit already, it goes on under the version that the store has.
void SetLimitSince(const std::optional<std::int64_t>& limit, std::int64_t limit_version,
                   SlotAim& aim) {
  aim.limit_since = limit.has_value() && *limit == aim.limit ? limit_version : 0;
}

RefusalKind KindOf(DecisionCode code) {
  if (code == DecisionCode::kQuotaExceeded) return RefusalKind::kQuotaExceeded;
  return code == DecisionCode::kRateLimited ? RefusalKind::kRateLimited : RefusalKind::kOtherwise;
}

std::string KeySubject(std::string_view key_id) { return absl::StrCat("k:", AbslView(key_id)); }

}  // namespace

Validator::Validator(const ValidatorParts& parts)
    : context_(parts.context),
      table_(parts.table),
      index_(parts.index),
      settler_(parts.settler),
      gate_(parts.gate),
      sip_key_(parts.sip_key),
      uses_system_clock_(parts.context.uses_system_clock),
      rules_(static_cast<std::size_t>(parts.context.options.cached_keys_max)),
      loader_(parts.context, parts.index, rules_, parts.sip_key),
      generation_(parts.table.generation()) {}

std::int64_t Validator::NowMs() const {
  if (!uses_system_clock_) return absl::ToUnixMillis(context_.options.clock->Read().wall);
  return ReadSystemNs(CLOCK_REALTIME_COARSE) / 1'000'000;
}

void Validator::ReadClock(Passage& passage) {
  if (uses_system_clock_) {
    const TickClock::Tick tick = tick_clock_.Read();
    passage.now_ns = tick.wall_ns;
    passage.rate_now_ns = tick.monotonic_ns;
  } else {
    const throttl::Clock::Reading now = context_.options.clock->Read();
    passage.now_ns = absl::ToUnixNanos(now.wall);
    passage.rate_now_ns = absl::ToInt64Nanoseconds(now.monotonic);
  }
  passage.now_ms = passage.now_ns / 1'000'000;
}

// The wall's time is as much later as the other is: both are of one tick, and since then go alike.
Validator::Next Validator::RefineClock(Passage& passage, Decision& decision) const {
  const std::int64_t fine_ns = ReadSystemNs(CLOCK_MONOTONIC);
  passage.now_ns += fine_ns - passage.rate_now_ns;
  passage.now_ms = passage.now_ns / 1'000'000;
  passage.rate_now_ns = fine_ns;
  decision.decided_at = absl::FromUnixNanos(passage.now_ns);
  return CheckExpiry(passage);
}

std::int64_t Validator::ReadMonotonicNs(Grain grain) const {
  if (!uses_system_clock_) {
    return absl::ToInt64Nanoseconds(context_.options.clock->Read().monotonic);
  }
  return ReadSystemNs(grain == Grain::kCoarse ? CLOCK_MONOTONIC_COARSE : CLOCK_MONOTONIC);
}

Decision Validator::Decide(std::string_view secret, const Request& request, Mode mode) noexcept {
  Decision decision;
  Passage passage(secret, request, mode);
  Next next = Begin(passage);
  decision.decided_at = absl::FromUnixNanos(passage.now_ns);
  for (int tries = 0; tries < kTriesMax && next != Next::kDecided; ++tries) {
    next = TryOnce(passage, decision);
  }
  if (next != Next::kDecided) passage.code = DecisionCode::kStoreUnavailable;
  Finish(passage, decision);
  return decision;
}

// In such an order that the processor fetches memory while it computes.
Validator::Next Validator::Begin(Passage& passage) {
  const std::optional<std::string_view> locator = LocatorIn(passage.secret);
  if (locator.has_value()) index_.Aim(LocatorKey::Own(*locator), passage.target);
  ReadClock(passage);
  if (passage.secret.empty()) return passage.Decide(DecisionCode::kMissing);
  const bool bad_cost = passage.request.cost < 0 || passage.request.cost > kCostMax;
  if (!locator.has_value() || bad_cost) {
    if (ReadSecret(passage) == Next::kDecided) return Next::kDecided;
    if (bad_cost) return passage.Decide(DecisionCode::kInvalidRequest);
  }
  table_.Prefetch(index_.Lead(passage.target));
  passage.tag = SipHash128(sip_key_, passage.secret);
  return Next::kGoOn;
}

// The index has only secrets that were read before, so one whose tag is there needs no reading,
// which takes longer than all the rest.
Validator::Next Validator::ReadSecret(Passage& passage) {
  const std::optional<SecretShape> shape = ShapeOf(passage.secret);
  if (!shape.has_value()) return passage.Decide(DecisionCode::kMalformed);
  passage.issued = shape->issued;
  passage.read = true;
  index_.Aim(shape->locator, passage.target);
  return Next::kAgain;
}

Validator::Next Validator::TryOnce(Passage& passage, Decision& decision) {
  passage.known = false;
  passage.generation = generation_.load(std::memory_order_acquire);
  if (table_.generation() != passage.generation) return CatchUpFirst(passage);
  if (!index_.Find(passage.target, passage.found)) {
    return passage.read ? LoadKey(passage) : ReadSecret(passage);
  }
  if (!EqualInConstantTime(passage.found.facts.secret_tag, passage.tag)) {
    return passage.read ? passage.Decide(DecisionCode::kNotFound) : ReadSecret(passage);
  }
  if (!index_.CopyIds(passage.found, decision.key_id, decision.owner_id, decision.plan_id)) {
    return Next::kAgain;
  }
  passage.known = true;
  const Next next = CheckIdentity(passage, decision);
  if (next != Next::kGoOn) return next;
  return passage.found.facts.Has(kHasRateLimits) ? SpendAll(passage, decision)
                                                 : SpendQuota(passage, decision);
}

Validator::Next Validator::CheckIdentity(Passage& passage, Decision& decision) {
  const KeyFacts& facts = passage.found.facts;
  if (facts.Has(kKeyInactive)) return passage.Decide(DecisionCode::kInactive);
  if (CheckExpiry(passage) == Next::kDecided) return Next::kDecided;
  decision.secret_retiring = facts.Has(kSecretRetiring);
  if (decision.secret_retiring) {
    decision.secret_expires_at = absl::FromUnixMillis(facts.secret_expires_at_ms);
  }
  if (!facts.Has(kHasAddresses) && passage.request.scope.empty()) return Next::kGoOn;
  return CheckRules(passage, decision);
}

Validator::Next Validator::CheckExpiry(Passage& passage) const {
  const KeyFacts& facts = passage.found.facts;
  if (passage.now_ms < std::min(facts.key_expires_at_ms, facts.secret_expires_at_ms)) {
    return Next::kGoOn;
  }
  return passage.Decide(DecisionCode::kExpired);
}

Validator::Next Validator::CheckRules(Passage& passage, const Decision& decision) {
  const KeyFacts& facts = passage.found.facts;
  const std::string_view scope = passage.request.scope;
  if (!facts.Has(kHasAddresses) && !facts.Has(kHasScopes)) {
    const bool wants_none = scope.find_first_not_of(' ') == std::string_view::npos;
    return wants_none ? Next::kGoOn : passage.Decide(DecisionCode::kScopeMissing);
  }
  const KeyRule* const rule = rules_.UseRule(facts.rules);
  if (rule == nullptr) return ForgetRules(decision);
  if (!rule->AllowsAddress(passage.request.address)) {
    return passage.Decide(DecisionCode::kForbidden);
  }
  return rule->HasScopes(scope) ? Next::kGoOn : passage.Decide(DecisionCode::kScopeMissing);
}

void Validator::FillQuota(const Passage& passage, const SpendAnswer& answer,
                          Decision& decision) const {
  const KeyFacts& facts = passage.found.facts;
  // An earlier request may have given back units that are forgiven.
  decision.quota.used = std::max<std::int64_t>(0, answer.used);
  decision.quota.period = facts.period;
  if (answer.period.ends()) {
    const absl::Time end = absl::FromUnixSeconds(answer.period.end_s());
    decision.quota.resets_at = end;
    const std::int64_t length_s = answer.period.length_s();
    if (length_s != 0) {
      decision.quota.starts_at = absl::FromUnixSeconds(answer.period.end_s() - length_s);
    }
  }
  if (!facts.Has(kQuotaHasLimit)) return;
  const std::int64_t limit = facts.limit + answer.added;
  decision.quota.limit = limit;
  decision.over_quota = answer.used > limit;
  decision.alert_percent = 0;
  if (limit == 0) return;
  for (const std::int16_t percent : facts.alert_percents) {
    // As ApplySettle rounds: both say the same of one count.
    if (percent == 0 || answer.used < (limit * percent + 99) / 100) break;
    decision.alert_percent = percent;
  }
}

Validator::Next Validator::SpendQuota(Passage& passage, Decision& decision) {
  const SlotRef slot = passage.found.facts.quota_slot;
  const bool peeks = passage.mode == Mode::kPeek;
  const UnitSpend spend = SpendOf(passage);
  return TakeAnswer(passage, peeks ? table_.Probe(slot, spend) : table_.TrySpend(slot, spend),
                    decision);
}

Validator::Next Validator::TakeAnswer(Passage& passage, const SpendAnswer& answer,
                                      Decision& decision) {
  const KeyFacts& facts = passage.found.facts;
  switch (answer.code) {
    case SpendCode::kChanged:
      return Next::kAgain;
    case SpendCode::kStale:
      return FindSlots(passage, decision);
    case SpendCode::kRefused:
      return RefuseQuota(passage, answer, decision);
    case SpendCode::kSpent:
      break;
  }
  FillQuota(passage, answer, decision);
  if (passage.mode == Mode::kPeek) return passage.Decide(DecisionCode::kValid);
  const bool of_owner = facts.Has(kQuotaOfOwner);
  decision.ticket = TicketOf(facts.quota_slot, of_owner, answer.period);
  if (of_owner) return CountUnderOwner(passage, answer, decision);
  table_.CountSurplus(facts.quota_slot, passage.request.cost - 1);
  decision.spent = passage.request.cost;
  return passage.Decide(DecisionCode::kValid);
}

std::int64_t Validator::QuotaWaitNs(const Passage& passage, const SpendAnswer& answer) {
  const KeyFacts& facts = passage.found.facts;
  const std::int64_t ceiling = facts.limit + facts.limit * facts.soft_percent / 100;
  const bool helps = answer.period.ends() && ceiling >= passage.request.cost;
  if (!helps) return RatePass::kNever;
  return (answer.period.end_s() - passage.now_ns / kSecondNs) * kSecondNs -
         passage.now_ns % kSecondNs;
}

Validator::Next Validator::RefuseQuota(Passage& passage, const SpendAnswer& answer,
                                       Decision& decision) {
  const KeyFacts& facts = passage.found.facts;
  if (passage.mode == Mode::kSpend) table_.NoteQuotaRefusal(facts.quota_slot, answer.quota_turn);
  FillQuota(passage, answer, decision);
  const std::int64_t wait_ns = QuotaWaitNs(passage, answer);
  if (wait_ns != RatePass::kNever) decision.retry_after = absl::Nanoseconds(wait_ns);
  return passage.Decide(DecisionCode::kQuotaExceeded);
}

// --- With rate limits: from the narrowest limit to the widest, the quota last, and all or none

Validator::Next Validator::SpendAll(Passage& passage, Decision& decision) {
  const KeyRule* const rule = rules_.UseRule(passage.found.facts.rules);
  if (rule == nullptr) return ForgetRules(decision);
  Clock clock(*this);
  RatePass rates(table_, gate_, clock);
  const bool wants_fine_clock = rates.Begin(rule->rates, passage.request, decision.key_id);
  if (rates.size() == 0) return SpendQuota(passage, decision);
  if (wants_fine_clock) {
    clock.Use(Grain::kFine);
    if (uses_system_clock_ && RefineClock(passage, decision) == Next::kDecided) {
      return Next::kDecided;
    }
  }
  SpendAnswer quota;
  const Next rated = SpendRates(passage, rates, quota, decision);
  if (rated != Next::kGoOn) return rated;
  const Next next = TakeAnswer(
      passage, table_.SpendSeen(passage.found.facts.quota_slot, SpendOf(passage), quota), decision);
  const bool stays_spent = next == Next::kDecided && passage.code == DecisionCode::kValid;
  if (!stays_spent) {
    rates.GiveBack();
    rates.Leave();
  }
  if (next != Next::kDecided) return next;
  rates.Describe(passage.now_ns, decision.rate);
  counts_.AddShadowRefusals(rates.shadow_refusals());
  return next;
}

// kGoOn: all of them are spent.
Validator::Next Validator::SpendRates(Passage& passage, RatePass& rates, SpendAnswer& quota,
                                      Decision& decision) {
  for (int tries = 0; tries < kTriesMax; ++tries) {
    const Next looked = LookAtAll(passage, rates, quota, decision);
    if (looked != Next::kGoOn) return looked;
    switch (rates.Spend()) {
      case RatePass::Step::kSpent:
        return Next::kGoOn;
      case RatePass::Step::kRaced:
        break;
      case RatePass::Step::kLags:
        if (ReadClockAgain(passage, decision) == Next::kDecided) return Next::kDecided;
        break;
      case RatePass::Step::kFailed:
        return Fail(rates.status(), passage, decision);
    }
  }
  return Next::kAgain;
}

// One reading holds for all of a decision.
Validator::Next Validator::ReadClockAgain(Passage& passage, Decision& decision) {
  ReadClock(passage);
  if (uses_system_clock_) return RefineClock(passage, decision);
  decision.decided_at = absl::FromUnixNanos(passage.now_ns);
  return CheckExpiry(passage);
}

// kGoOn: every limit has room. Of those that have not, the one that makes the request wait longest
// decides, so that it can succeed after the wait.
Validator::Next Validator::LookAtAll(Passage& passage, RatePass& rates, SpendAnswer& quota,
                                     Decision& decision) {
  const bool peeks = passage.mode == Mode::kPeek;
  // In this order, since what Begin asked for may still be on its way.
  quota = table_.Probe(passage.found.facts.quota_slot, SpendOf(passage));
  const bool rates_fit = rates.Look(passage.rate_now_ns);
  if (rates_fit && quota.code == SpendCode::kSpent && !peeks) return Next::kGoOn;
  return StopAtLook(passage, rates, rates_fit, quota, decision);
}

// Not all have room, or a Peek, which ends here.
Validator::Next Validator::StopAtLook(Passage& passage, RatePass& rates, bool rates_fit,
                                      const SpendAnswer& quota, Decision& decision) {
  const bool peeks = passage.mode == Mode::kPeek;
  if (quota.code == SpendCode::kChanged) return Next::kAgain;
  if (quota.code == SpendCode::kStale) {
    const Next next = FindSlots(passage, decision);
    const bool unmetered = next == Next::kDecided && passage.code == DecisionCode::kValid;
    return unmetered ? LookWithoutQuota(passage, rates, rates_fit, decision) : next;
  }
  const bool quota_fits = quota.code == SpendCode::kSpent;
  rates.Leave();
  rates.Describe(passage.now_ns, decision.rate);
  if (!peeks) counts_.AddShadowRefusals(rates.shadow_refusals());
  FillQuota(passage, quota, decision);
  if (rates_fit && quota_fits) return passage.Decide(DecisionCode::kValid);
  const std::int64_t wait_ns = quota_fits ? -1 : QuotaWaitNs(passage, quota);
  if (wait_ns >= rates.wait_ns()) return RefuseQuota(passage, quota, decision);
  return RefuseRate(passage, rates, decision);
}

Validator::Next Validator::RefuseRate(Passage& passage, const RatePass& rates, Decision& decision) {
  if (rates.wait_ns() != RatePass::kNever) {
    decision.retry_after = absl::Nanoseconds(rates.wait_ns());
  }
  return passage.Decide(DecisionCode::kRateLimited);
}

// The store is away, and the request is let pass unmetered: rate limits need no store, and hold.
Validator::Next Validator::LookWithoutQuota(Passage& passage, RatePass& rates, bool rates_fit,
                                            Decision& decision) {
  const bool peeks = passage.mode == Mode::kPeek;
  if (rates_fit && !peeks) {
    const RatePass::Step step = rates.Spend();
    if (step == RatePass::Step::kRaced || step == RatePass::Step::kLags) {
      decision.unmetered = false;
      const bool lags = step == RatePass::Step::kLags;
      return lags && ReadClockAgain(passage, decision) == Next::kDecided ? Next::kDecided
                                                                         : Next::kAgain;
    }
  } else {
    rates.Leave();
  }
  rates.Describe(passage.now_ns, decision.rate);
  if (!peeks) counts_.AddShadowRefusals(rates.shadow_refusals());
  if (rates_fit) return Next::kDecided;
  decision.unmetered = false;
  return RefuseRate(passage, rates, decision);
}

// The owner's quota is spent; the key's own slot has no limit, and only says who used it.
Validator::Next Validator::CountUnderOwner(Passage& passage, const SpendAnswer& spent,
                                           Decision& decision) {
  const KeyFacts& facts = passage.found.facts;
  const std::int64_t cost = passage.request.cost;
  const SpendAnswer counted = table_.TrySpend(facts.key_slot, SpendOf(passage));
  if (counted.code == SpendCode::kSpent) {
    table_.CountSurplus(facts.key_slot, cost - 1);
    decision.spent = cost;
    return passage.Decide(DecisionCode::kValid);
  }
  // The key may have been revoked since: start again as if nothing had been spent.
  table_.Correct(facts.quota_slot, spent.period.end_ms(), -cost);
  return counted.code == SpendCode::kStale ? FindSlots(passage, decision) : Next::kAgain;
}

void Validator::Finish(const Passage& passage, Decision& decision) {
  decision.code = passage.code;
  const bool allowed = decision.allowed();
  if (!allowed) {
    decision.ticket = {};
    decision.over_quota = false;
    decision.alert_percent =
        passage.code == DecisionCode::kQuotaExceeded ? decision.alert_percent : 0;
  }
  if (!passage.known) {
    decision.key_id = {};
    decision.owner_id = {};
    decision.plan_id = {};
  }
  if (passage.mode == Mode::kPeek) return;
  counts_.Add(allowed);
  if (allowed || !passage.known) return;
  table_.CountRefusal(passage.found.facts.key_slot, KindOf(passage.code));
}

std::int64_t Validator::Adjust(Decision& decision, std::int64_t actual_cost) noexcept {
  if (!decision.allowed() || decision.unmetered || decision.ticket[0] == 0) return decision.spent;
  const std::int64_t wanted = std::clamp<std::int64_t>(actual_cost, 0, kCostMax);
  const std::uint64_t packed = decision.ticket[1];
  const SlotRef ref{.slot = static_cast<std::uint32_t>(packed >> kTicketSlotShift),
                    .claim = decision.ticket[0]};
  const std::uint64_t end = packed & kTicketNever;
  const std::int64_t period_end_ms =
      end == kTicketNever ? kNever : static_cast<std::int64_t>(end) * 1000;
  if (NowMs() >= period_end_ms) return decision.spent;
  const std::int64_t change = table_.Correct(ref, period_end_ms, wanted - decision.spent);
  decision.spent += change;
  if (change == 0 || ((packed >> kTicketOwnerShift) & 1) == 0) return decision.spent;
  const CallGate::Call call(gate_);
  // The usage of the key itself follows; where that fails, only its history is off.
  const absl::StatusOr<std::optional<SlotRef>> own = table_.Lookup(KeySubject(decision.key_id));
  if (own.ok() && own->has_value()) table_.Correct(**own, kNever, change);
  return decision.spent;
}

// --- The slow parts

void Validator::CatchUp() {
  const std::uint64_t generation = generation_.load(std::memory_order_acquire);
  const ChangesSince since = table_.CatchUp(generation);
  if (since.generation == generation) return;
  if (since.everything) {
    index_.InvalidateAll();
    rules_.Clear();
  } else {
    for (const std::string& key_id : since.key_ids) index_.InvalidateKey(key_id);
  }
  // Never back: another thread may have come further meanwhile.
  std::uint64_t seen = generation;
  while (seen < since.generation && !generation_.compare_exchange_weak(seen, since.generation)) {
  }
}

Validator::Next Validator::CatchUpFirst(Passage& passage) {
  const CallGate::Call call(gate_);
  // A table in private memory is not there in a forked child: it has no generation.
  if (table_.generation() == 0) return passage.Decide(DecisionCode::kStoreUnavailable);
  CatchUp();
  return Next::kAgain;
}

Validator::Next Validator::LoadKey(Passage& passage) {
  const CallGate::Call call(gate_);
  counts_.AddMiss();
  const SecretShape shape{.locator = passage.target.locator, .issued = passage.issued};
  switch (loader_.Load(passage.secret, shape, passage.now_ms)) {
    case LoadOutcome::kLoaded:
      return Next::kAgain;
    case LoadOutcome::kUnknown:
      return passage.Decide(passage.issued ? DecisionCode::kNotFound : DecisionCode::kMalformed);
    case LoadOutcome::kUnavailable:
      break;
  }
  return passage.Decide(DecisionCode::kStoreUnavailable);
}

Validator::Next Validator::ForgetRules(const Decision& decision) {
  const CallGate::Call call(gate_);
  index_.InvalidateKey(decision.key_id);
  return Next::kAgain;
}

Validator::Next Validator::FindSlots(Passage& passage, Decision& decision) {
  const CallGate::Call call(gate_);
  const absl::Status status = TryFindSlots(passage, decision);
  if (status.ok()) return Next::kAgain;
  if (absl::IsCancelled(status)) return Next::kAgain;
  if (absl::IsNotFound(status)) {  // the rules were forgotten
    index_.InvalidateKey(decision.key_id);
    return Next::kAgain;
  }
  return Fail(status, passage, decision);
}

Validator::Next Validator::Fail(const absl::Status& status, Passage& passage, Decision& decision) {
  context_.NoteStoreError(status);
  if (context_.options.on_store_failure == StoreFailure::kRefuse) {
    return passage.Decide(DecisionCode::kStoreUnavailable);
  }
  decision.unmetered = true;
  return passage.Decide(DecisionCode::kValid);
}

absl::Status Validator::TryFindSlots(const Passage& passage, const Decision& decision) {
  const KeyFacts& facts = passage.found.facts;
  const std::optional<QuotaOfKey> quota = loader_.QuotaOf(passage.found, decision.plan_id);
  if (!quota.has_value()) return absl::NotFoundError("the plan was forgotten");
  const bool of_owner = facts.Has(kQuotaOfOwner);
  const std::string key_subject = KeySubject(decision.key_id);
  const std::string owner_subject =
      absl::StrCat("o:", AbslView(decision.plan_id), ":", AbslView(decision.owner_id));
  const SlotAim aim = quota->AimAt(passage.now_ms, facts.limit_version);
  SlotAim quota_aim = aim;
  if (of_owner) quota_aim.limit_version = quota->plan->version;
  THROTTL_ASSIGN_OR_RETURN(const SlotRef quota_slot,
                           SlotOf({.subject = of_owner ? owner_subject : key_subject,
                                   .owner_id = decision.owner_id,
                                   .aim = quota_aim}));
  SlotRef key_slot = quota_slot;
  if (of_owner) {
    const SlotAim key_aim{.limit_version = facts.limit_version, .hour = aim.hour};
    THROTTL_ASSIGN_OR_RETURN(
        key_slot, SlotOf({.subject = key_subject, .owner_id = decision.owner_id, .aim = key_aim}));
  }
  if (key_slot != facts.key_slot || quota_slot != facts.quota_slot) {
    index_.UpdateSlots(passage.found, key_slot, quota_slot);
  }
  return absl::OkStatus();
}

absl::StatusOr<SlotRef> Validator::SlotOf(const SlotTarget& wanted) {
  SlotTarget target = wanted;
  for (int tries = 0; tries < kTriesMax; ++tries) {
    absl::StatusOr<std::optional<SlotRef>> begun = TrySlotOf(target);
    // The period before the last one is still in the slot.
    if (absl::IsAborted(begun.status())) {
      THROTTL_RETURN_IF_ERROR(settler_.Settle());
      continue;
    }
    if (!begun.ok()) return begun.status();
    if (begun->has_value()) return **begun;
  }
  return absl::UnavailableError("the lease table changes too fast");
}

absl::StatusOr<std::optional<SlotRef>> Validator::TrySlotOf(SlotTarget& target) {
  THROTTL_ASSIGN_OR_RETURN(const FoundSlot found, table_.Find(target));
  if (found.ref.has_value()) return found.ref;
  THROTTL_ASSIGN_OR_RETURN(const std::int64_t limit_version, ReadStart(found, target));
  // The store has a carry-over that nobody was told of, and what it forgives and adds goes with its
  // limit. Who makes the change, or finds it half made, tells of it under the commit lock.
  const bool changing = found.carries_seen < found.carries;
  if (changing && limit_version > target.aim.limit_version) {
    THROTTL_RETURN_IF_ERROR(settler_.Settle());
    return absl::CancelledError("the limit has changed");
  }
  return table_.Begin(target, found.reuses);
}

// What was used of the period, by this table and by others, and the version of the limit that the
// store knows. A row with seq 0 changes nothing: its reply says what this holder's lease is.
absl::StatusOr<std::int64_t> Validator::ReadStart(const FoundSlot& found, SlotTarget& target) {
  target.aim.carries = found.carries;
  target.aim.carries_seen = found.carries_seen;
  const CounterId counter{.subject = std::string(target.subject),
                          .period_start = absl::FromUnixSeconds(found.period_start_s)};
  if (!found.counted_before) {
    THROTTL_ASSIGN_OR_RETURN(const std::vector<Counter> counters,
                             context_.store->ReadCounters(std::span(&counter, 1)));
    target.aim.base = counters.front().charged;
    target.aim.forgiven = counters.front().forgiven;
    target.aim.added = counters.front().added;
    target.aim.units = 0;
    SetLimitSince(counters.front().limit, counters.front().limit_version, target.aim);
    return counters.front().limit_version;
  }
  const SettleRow ask{.counter = counter, .seq = 0};
  THROTTL_ASSIGN_OR_RETURN(
      const std::vector<SettleReply> replies,
      context_.store->Settle({.holder = table_.holder(), .now = context_.Now(), .rows = {ask}}));
  target.aim.units = replies.front().allowance;
  SetLimitSince(replies.front().limit, replies.front().limit_version, target.aim);
  target.aim.base = replies.front().charged_to_all - replies.front().allowance;
  target.aim.forgiven = replies.front().forgiven;
  target.aim.added = replies.front().added;
  return replies.front().limit_version;
}

}  // namespace throttl::internal
