// The Floor does only what no design of Validate can avoid: XXH3 of the locator, one probe, which
// has the ids beside it, SipHash-128 of the secret, one clock reading, one compare-and-swap on a
// line that others may share, and filling the ids in.
//
// It checks no more of the request than that, knows no changes, no periods and no limits but one,
// and finds what it looks for. Its memory lies in huge pages, where the system has them.
//
// Thread safety: all methods from any thread.
//
//   const Floor floor(keys, 1'000);
//   Floor::Answer answer;
//   floor.Decide(secret, answer);
#ifndef THROTTL_BENCHMARKS_FLOOR_H_
#define THROTTL_BENCHMARKS_FLOOR_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "src/base/sip_hash.h"
#include "src/engine/cached_key.h"
#include "src/lease/huge_pages.h"

#include "benchmarks/bench_keys.h"

namespace throttl::benchmarks {

class Floor {
 public:
  struct Answer {
    internal::KeyIds ids;
    std::int64_t now_ms = 0;
    std::int64_t used = 0;
    bool allowed = false;
  };

  // REQUIRES: keys.size() >= count.
  Floor(const BenchKeys& keys, std::size_t count);

  void Decide(std::string_view secret, Answer& answer) const;

  // The parts by themselves.
  struct alignas(64) Entry {
    std::uint64_t hash = 0;  // 0: none
    std::uint32_t slot = 0;
    internal::SipTag tag = {};
    internal::KeyIds ids = {};
  };
  const Entry* Probe(std::uint64_t hash) const;
  static std::uint32_t SlotIn(const Entry& entry);
  std::uint64_t HashOf(std::string_view secret) const;
  internal::SipTag TagOf(std::string_view secret) const;
  static std::int64_t NowMs();
  // False: the limit is reached.
  bool Spend(std::uint32_t slot, std::int64_t& used) const;
  static void CopyIds(const Entry& entry, internal::KeyIds& ids);

 private:
  struct alignas(64) Slot {
    std::atomic<std::uint64_t> consumed = 0;
  };

  std::size_t mask_;
  internal::HugeArray<Entry> entries_;
  internal::HugeArray<Slot> slots_;
};

}  // namespace throttl::benchmarks

#endif  // THROTTL_BENCHMARKS_FLOOR_H_
