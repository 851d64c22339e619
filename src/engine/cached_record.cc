#include "src/engine/cached_record.h"

#include <thread>

namespace throttl::internal {

std::uint64_t CachedRecord::AwaitQuietHead() const {
  // A writer is inside for less than these spins take, unless the kernel has put it aside.
  constexpr int kSpinsMax = 200;
  for (int spins = 0;; ++spins) {
    const std::uint64_t head = Load(kHead);
    if ((head & kWriting) == 0) return head & ~kUsed;
    if (spins >= kSpinsMax) std::this_thread::yield();
  }
}

std::uint64_t CachedRecord::BeginWriting() {
  const std::uint64_t begun = (Load(kHead) | kWriting) & ~kUsed;
  Store(kHead, begun);
  return begun;
}

void CachedRecord::EndWriting(std::uint64_t begun, std::uint64_t rest) {
  const std::uint64_t sequence = (begun >> kSequenceShift) + 1;
  Store(kHead, sequence << kSequenceShift | rest);
}

void CachedRecord::StoreSlots(const SlotRef& key_slot, const SlotRef& quota_slot) {
  Store(kSlots, std::uint64_t{quota_slot.slot} << 32 | key_slot.slot);
  Store(kKeyClaim, key_slot.claim);
  Store(kQuotaClaim, quota_slot.claim);
}

void CachedRecord::Write(const LocatorKey& locator, const CachedKey& key) {
  const KeyFacts& facts = key.facts;
  const std::uint64_t begun = BeginWriting();
  StoreBytes(kLocator, locator.words());
  StoreBytes(kTag, facts.secret_tag);
  StoreSigned(kSecretExpires, facts.secret_expires_at_ms);
  StoreSigned(kKeyExpires, facts.key_expires_at_ms);
  StoreSigned(kLimit, facts.limit);
  StoreSigned(kLimitVersion, facts.limit_version);
  StoreSlots(facts.key_slot, facts.quota_slot);
  Store(kRules, facts.rules);
  StoreBytes(kAlertPercents, facts.alert_percents);
  StoreBytes(kKeyId, key.ids.key_id);
  StoreBytes(kOwnerId, key.ids.owner_id);
  StoreBytes(kPlanId, key.ids.plan_id);
  EndWriting(begun, std::uint64_t{facts.flags} |
                        static_cast<std::uint64_t>(facts.period) << kPeriodShift |
                        static_cast<std::uint64_t>(facts.soft_percent) << kSoftShift);
}

bool CachedRecord::WriteSlots(std::uint64_t version, const SlotRef& key_slot,
                              const SlotRef& quota_slot) {
  if (!IsStill(version)) return false;
  const std::uint64_t begun = BeginWriting();
  StoreSlots(key_slot, quota_slot);
  EndWriting(begun, version & (kWriting - 1) & ~kUsed);
  return true;
}

void CachedRecord::Clear() {
  const std::uint64_t begun = BeginWriting();
  StoreBytes(kLocator, LocatorKey().words());
  EndWriting(begun, 0);
}

LocatorKey CachedRecord::locator() const {
  return LocatorKey({Load(kLocator), Load(kLocator + 1)});
}

bool CachedRecord::TakeUsed() {
  return (words_[kHead].fetch_and(~kUsed, std::memory_order_relaxed) & kUsed) != 0;
}

}  // namespace throttl::internal
