// Memory of many megabytes that requests read at random, in huge pages: the processor finds it by
// few entries of its tables, where a request would otherwise wait for the pages' addresses as well.
//
// Thread safety: pure functions; a HugeArray is as safe as an array.
//
//   HugeArray<Line> lines(line_count, PageKind::kHuge);
#ifndef THROTTL_SRC_LEASE_HUGE_PAGES_H_
#define THROTTL_SRC_LEASE_HUGE_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <type_traits>

namespace throttl::internal {

// Of x86-64, and of arm64 with its usual pages.
inline constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

enum class PageKind : std::uint8_t { kPlain = 1, kHuge = 2 };

// Asks the kernel for huge pages where the memory has whole ones. It is free not to have any.
void AdviseHugePages(void* data, std::size_t bytes);

struct Unmapper {
  std::size_t bytes = 0;
  void operator()(void* data) const;
};
using MappedBytes = std::unique_ptr<void, Unmapper>;

// Zeros, taken from the system as they are touched, that begin at a huge page if they fill one.
// Throws std::bad_alloc.
MappedBytes MapBytes(std::size_t bytes, PageKind kind);

// A fixed number of objects, whose value is that of zero bytes until it is set.
template <typename T>
class HugeArray {
 public:
  static_assert(std::is_trivially_destructible_v<T>);

  HugeArray() = default;
  // Throws std::bad_alloc.
  HugeArray(std::size_t size, PageKind kind) : memory_(MapBytes(size * sizeof(T), kind)) {}

  T& operator[](std::size_t at) const { return static_cast<T*>(memory_.get())[at]; }

 private:
  MappedBytes memory_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_LEASE_HUGE_PAGES_H_
