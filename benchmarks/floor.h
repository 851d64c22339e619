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
#include <memory>
#include <string_view>

#include "benchmarks/bench_keys.h"
#include "src/base/sip_hash.h"
#include "src/engine/cached_key.h"

namespace throttl::benchmarks {

// Memory of zeros, in huge pages where the system has them.
class Pages {
 public:
  explicit Pages(std::size_t bytes);
  Pages(Pages&&) = delete;
  ~Pages();
  void* data() const { return data_; }

 private:
  void* data_;
  std::size_t bytes_;
};

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
  struct Entry;
  const Entry* Probe(std::uint64_t hash) const;
  static std::uint32_t SlotIn(const Entry& entry);
  std::uint64_t HashOf(std::string_view secret) const;
  internal::SipTag TagOf(std::string_view secret) const;
  static std::int64_t NowMs();
  // False: the limit is reached.
  bool Spend(std::uint32_t slot, std::int64_t& used) const;
  static void CopyIds(const Entry& entry, internal::KeyIds& ids);

 private:
  struct Slot;

  std::size_t mask_;
  Pages entry_pages_;
  Pages slot_pages_;
  Entry* entries_;
  Slot* slots_;
};

}  // namespace throttl::benchmarks

#endif  // THROTTL_BENCHMARKS_FLOOR_H_
