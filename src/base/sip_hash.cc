#include "src/base/sip_hash.h"

#include <bit>
#include <cstddef>
#include <cstring>

namespace throttl::internal {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

constexpr std::size_t kWordBytes = sizeof(std::uint64_t);

struct SipState {
  std::uint64_t v0, v1, v2, v3;

  void Round() {
    v0 += v1;
    v1 = std::rotl(v1, 13) ^ v0;
    v0 = std::rotl(v0, 32);
    v2 += v3;
    v3 = std::rotl(v3, 16) ^ v2;
    v0 += v3;
    v3 = std::rotl(v3, 21) ^ v0;
    v2 += v1;
    v1 = std::rotl(v1, 17) ^ v2;
    v2 = std::rotl(v2, 32);
  }

  void Compress(std::uint64_t word) {
    v3 ^= word;
    Round();
    Round();
    v0 ^= word;
  }

  std::uint64_t Finish() {
    for (int i = 0; i < 4; ++i) Round();
    return v0 ^ v1 ^ v2 ^ v3;
  }
};

}  // namespace

SipTag SipHash128(const SipKey& key, std::string_view text) {
  // "somepseudorandomlygeneratedbytes", and 0xee, which tells the longer output from the shorter.
  SipState state = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d ^ 0xee,
                    key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
  const char* bytes = text.data();
  std::size_t left = text.size();
  for (; left >= kWordBytes; bytes += kWordBytes, left -= kWordBytes) {
    std::uint64_t word;
    std::memcpy(&word, bytes, kWordBytes);
    state.Compress(word);
  }
  std::uint64_t last = text.size() << 56;
  for (std::size_t i = 0; i < left; ++i) {
    last |= std::uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  }
  state.Compress(last);
  state.v2 ^= 0xee;
  const std::uint64_t first_half = state.Finish();
  state.v1 ^= 0xdd;
  return {first_half, state.Finish()};
}

}  // namespace throttl::internal
