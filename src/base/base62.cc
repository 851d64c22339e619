#include "src/base/base62.h"

#include <algorithm>

namespace throttl::internal {

bool IsBase62(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
  });
}

std::string Base62Of(std::span<const std::uint8_t> bytes, std::size_t digits) {
  std::string text(digits, '0');
  WriteBase62(bytes, text);
  return text;
}

void WriteBase62(std::span<const std::uint8_t> bytes, std::span<char> out) {
  std::fill(out.begin(), out.end(), '\0');
  // `out` holds values, not characters, until the end: for each byte, out = out * 256 + byte. What
  // is carried beyond the first digit is dropped, which is the modulus.
  for (const std::uint8_t byte : bytes) {
    unsigned carry = byte;
    for (auto digit = out.rbegin(); digit != out.rend(); ++digit) {
      const unsigned value = static_cast<unsigned char>(*digit) * 256U + carry;
      *digit = static_cast<char>(value % 62);
      carry = value / 62;
    }
  }
  for (char& digit : out) digit = kBase62Alphabet[static_cast<unsigned char>(digit)];
}

}  // namespace throttl::internal
