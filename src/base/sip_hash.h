// SipHash-2-4 with 128 bits of output: a keyed hash of short texts that nobody without the key can
// steer.
//
// The algorithm is Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, with the longer
// output of its reference implementation. It is written here because OpenSSL's SIPHASH allocates on
// every use, and this runs in each request, whose budget is about 100 ns.
//
// Thread safety: pure functions.
//
//   if (EqualInConstantTime(SipHash128(key, secret), known)) ...
#ifndef THROTTL_SRC_BASE_SIP_HASH_H_
#define THROTTL_SRC_BASE_SIP_HASH_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace throttl::internal {

// The 16 bytes of the reference implementation, each half as a little-endian number.
using SipKey = std::array<std::uint64_t, 2>;
using SipTag = std::array<std::uint64_t, 2>;

// Allocates nothing.
SipTag SipHash128(const SipKey& key, std::string_view text);

// Takes the same time wherever they differ.
inline bool EqualInConstantTime(const SipTag& a, const SipTag& b) {
  return ((a[0] ^ b[0]) | (a[1] ^ b[1])) == 0;
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_SIP_HASH_H_
