#include "benchmarks/floor.h"

#include <time.h>

#include <bit>
#include <cstring>

#include "src/base/fast_hash.h"
#include "src/key/secret_format.h"

namespace throttl::benchmarks {
namespace {

constexpr std::uint64_t kSeed = 0x5eed;
constexpr internal::SipKey kSipKey = {1, 2};
constexpr std::int64_t kLimit = 1'000'000'000'000;

}  // namespace

Floor::Floor(const BenchKeys& keys, std::size_t count)
    : mask_(std::bit_ceil(count * 3 / 2) - 1),
      entries_(mask_ + 1, internal::PageKind::kHuge),
      slots_(count, internal::PageKind::kHuge) {
  for (std::size_t number = 0; number < count; ++number) {
    const std::uint64_t hash = HashOf(keys.secret(number));
    std::size_t at = hash & mask_;
    while (entries_[at].hash != 0) at = (at + 1) & mask_;
    Entry& entry = entries_[at];
    entry.hash = hash;
    entry.slot = static_cast<std::uint32_t>(number);
    entry.tag = TagOf(keys.secret(number));
    entry.ids.key_id = std::string_view(BenchKeys::IdOf(number));
    entry.ids.owner_id = std::string_view(BenchKeys::OwnerOf(number));
    entry.ids.plan_id = BenchKeys::kPlanId;
    slots_[number].consumed.store(1);  // so that its page is there
  }
}

std::uint64_t Floor::HashOf(std::string_view secret) const {
  const std::string_view locator =
      secret.substr(secret.size() - internal::kBodySize, internal::kLocatorSize);
  return internal::FastHash(kSeed, locator);
}

internal::SipTag Floor::TagOf(std::string_view secret) const {
  return internal::SipHash128(kSipKey, secret);
}

std::int64_t Floor::NowMs() {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

const Floor::Entry* Floor::Probe(std::uint64_t hash) const {
  for (std::size_t at = hash & mask_;; at = (at + 1) & mask_) {
    const Entry& entry = entries_[at];
    if (entry.hash == hash) return &entry;
    if (entry.hash == 0) return nullptr;
  }
}

std::uint32_t Floor::SlotIn(const Entry& entry) { return entry.slot; }

bool Floor::Spend(std::uint32_t number, std::int64_t& used) const {
  Slot& slot = slots_[number];
  std::uint64_t consumed = slot.consumed.load(std::memory_order_acquire);
  do {
    used = static_cast<std::int64_t>(consumed) + 1;
    if (used > kLimit) return false;
  } while (!slot.consumed.compare_exchange_weak(consumed, consumed + 1, std::memory_order_acq_rel,
                                                std::memory_order_relaxed));
  return true;
}

void Floor::CopyIds(const Entry& entry, internal::KeyIds& ids) {
  std::memcpy(&ids, &entry.ids, sizeof(ids));
}

void Floor::Decide(std::string_view secret, Answer& answer) const {
  const std::uint64_t hash = HashOf(secret);
  const char* const first = reinterpret_cast<const char*>(&entries_[hash & mask_]);
  for (std::size_t line = 0; line < sizeof(Entry); line += 64) __builtin_prefetch(first + line);
  answer.now_ms = NowMs();
  const internal::SipTag tag = TagOf(secret);
  const Entry* const entry = Probe(hash);
  answer.allowed = false;
  if (entry == nullptr) return;
  __builtin_prefetch(&slots_[entry->slot], 1);
  if (!internal::EqualInConstantTime(entry->tag, tag)) return;
  CopyIds(*entry, answer.ids);
  answer.allowed = Spend(entry->slot, answer.used);
}

}  // namespace throttl::benchmarks
