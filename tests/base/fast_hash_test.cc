#include "src/base/fast_hash.h"

#include <cstdint>
#include <cstring>
#include <set>
#include <string>

#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

// Of the XXH3 sanity check of xxHash 0.8 (tests/sanity_test_vectors.h): its buffer is the highest
// byte of powers of PRIME32 times PRIME64.
TEST_CASE("FastHash gives the vectors of xxHash") {
  std::string buffer;
  for (std::uint64_t byte = 2654435761U; buffer.size() < 64; byte *= 11400714785074694797U) {
    buffer.push_back(static_cast<char>(byte >> 56));
  }
  CHECK(FastHash(0, "") == 0x2d06800538d394c2);
  CHECK(FastHash(0, buffer.substr(0, 1)) == 0xc44bdff4074eecdb);
  CHECK(FastHash(0, buffer.substr(0, 6)) == 0x27b56a84cd2d7325);
  CHECK(FastHash(0, buffer.substr(0, 12)) == 0xa713daf0dfbb77e7);
}

TEST_CASE("texts fall elsewhere under another seed") {
  std::set<std::uint64_t> hashes;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) hashes.insert(FastHash(seed, "0123456789ab"));
  CHECK(hashes.size() == 1000);
}

}  // namespace
}  // namespace throttl::internal
