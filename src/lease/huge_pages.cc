#include "src/lease/huge_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace throttl::internal {

void AdviseHugePages(void* data, std::size_t bytes) {
  if (std::align(kHugePageBytes, kHugePageBytes, data, bytes) == nullptr) return;
  // A kernel that has none says so, which changes nothing.
  static_cast<void>(madvise(data, bytes - bytes % kHugePageBytes, MADV_HUGEPAGE));
}

void Unmapper::operator()(void* data) const { munmap(data, bytes); }

MappedBytes MapBytes(std::size_t bytes_wanted, PageKind kind) {
  const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t bytes = (bytes_wanted + page - 1) / page * page;
  // With room to begin at a huge page; what lies before and behind is given back.
  const std::size_t room = bytes < kHugePageBytes ? bytes : bytes + kHugePageBytes;
  void* const mapped =
      mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  void* data = mapped;
  std::size_t left = room;
  if (bytes >= kHugePageBytes && std::align(kHugePageBytes, bytes, data, left) != nullptr) {
    if (left < room) munmap(mapped, room - left);
    if (bytes < left) munmap(static_cast<char*>(data) + bytes, left - bytes);
  }
  if (kind == PageKind::kHuge) AdviseHugePages(data, bytes);
  return MappedBytes(data, {bytes});
}

}  // namespace throttl::internal
