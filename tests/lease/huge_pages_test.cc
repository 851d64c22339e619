#include "src/lease/huge_pages.h"

#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

TEST_CASE("an array of any size is zeros, and begins at a huge page if it fills one") {
  for (const PageKind kind : {PageKind::kPlain, PageKind::kHuge}) {
    for (const std::size_t bytes :
         {std::size_t{8}, std::size_t{4096}, kHugePageBytes - 8, kHugePageBytes, kHugePageBytes + 8,
          3 * kHugePageBytes + 4096}) {
      CAPTURE(bytes);
      const std::size_t size = bytes / sizeof(std::uint64_t);
      const HugeArray<std::uint64_t> words(size, kind);
      std::uint64_t sum = 0;
      for (std::size_t at = 0; at < size; ++at) sum += words[at]++;
      CHECK(sum == 0);
      for (std::size_t at = 0; at < size; ++at) sum += words[at];
      CHECK(sum == size);
      if (bytes < kHugePageBytes) continue;
      CHECK(reinterpret_cast<std::uintptr_t>(&words[0]) % kHugePageBytes == 0);
    }
  }
}

TEST_CASE("an array keeps its place when it is moved, and what it had is given back once") {
  HugeArray<std::uint64_t> words(kHugePageBytes / 8, PageKind::kHuge);
  words[5] = 7;
  const std::uint64_t* const place = &words[0];
  HugeArray<std::uint64_t> moved = std::move(words);
  CHECK(&moved[0] == place);
  CHECK(moved[5] == 7);
  moved = HugeArray<std::uint64_t>(1, PageKind::kPlain);
  CHECK(moved[0] == 0);
}

TEST_CASE("more memory than there can be is refused as by new") {
  CHECK_THROWS_AS(MapBytes(std::size_t{1} << 60, PageKind::kHuge), std::bad_alloc);
}

}  // namespace
}  // namespace throttl::internal
