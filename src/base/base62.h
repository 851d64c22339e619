// Base62 writes numbers and randomness with digits and ASCII letters only.
//
// Thread safety: pure functions.
//
//   Base62Of(id, 22);  // 16 bytes as 22 digits
#ifndef THROTTL_SRC_BASE_BASE62_H_
#define THROTTL_SRC_BASE_BASE62_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace throttl::internal {

inline constexpr std::string_view kBase62Alphabet =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

// Whether every byte is of the alphabet. The empty text is.
bool IsBase62(std::string_view text);

// `bytes` as a big-endian number modulo 62^digits, in exactly `digits` digits, padded with '0'.
std::string Base62Of(std::span<const std::uint8_t> bytes, std::size_t digits);

// The same into `out`, one digit a byte, without allocating.
void WriteBase62(std::span<const std::uint8_t> bytes, std::span<char> out);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_BASE62_H_
