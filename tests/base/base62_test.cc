#include "src/base/base62.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <rapidcheck.h>

namespace throttl::internal {
namespace {

// The inverse of Base62Of, by another way: for each digit, number = number * 62 + digit.
std::vector<std::uint8_t> NumberOf(const std::string& digits, std::size_t size) {
  std::vector<std::uint8_t> number(size);
  for (const char digit : digits) {
    auto carry = static_cast<unsigned>(kBase62Alphabet.find(digit));
    for (auto byte = number.rbegin(); byte != number.rend(); ++byte) {
      const unsigned value = *byte * 62U + carry;
      *byte = static_cast<std::uint8_t>(value);
      carry = value >> 8;
    }
  }
  return number;
}

TEST_CASE("the alphabet is 62 different characters in ASCII order") {
  CHECK(std::set<char>(kBase62Alphabet.begin(), kBase62Alphabet.end()).size() == 62);
  CHECK(std::is_sorted(kBase62Alphabet.begin(), kBase62Alphabet.end()));
}

TEST_CASE("IsBase62 takes every byte of the alphabet, no other, and the empty text") {
  CHECK(IsBase62(""));
  for (int c = 0; c < 256; ++c) {
    const std::string text = std::string("a") + static_cast<char>(c) + "Z";
    CAPTURE(c);
    CHECK(IsBase62(text) == (kBase62Alphabet.find(static_cast<char>(c)) != std::string_view::npos));
  }
}

// The values are from an independent program: Python's integers.
TEST_CASE("Base62Of is the big-endian number, in exactly so many digits, padded with '0'") {
  std::array<std::uint8_t, 16> all_ones;
  all_ones.fill(0xff);
  CHECK(Base62Of(all_ones, 22) == "7n42DGM5Tflk9n8mt7Fhc7");
  std::array<std::uint8_t, 16> counting = {};
  for (std::uint8_t i = 0; i < 16; ++i) counting[i] = i;
  CHECK(Base62Of(counting, 22) == "000SYW7RiJxkEgOGusQGwp");
  CHECK(Base62Of(std::vector<std::uint8_t>{61}, 1) == "z");
  CHECK(Base62Of(std::vector<std::uint8_t>{62}, 2) == "10");
  CHECK(Base62Of(std::vector<std::uint8_t>{}, 3) == "000");
  CHECK(Base62Of(all_ones, 0).empty());
}

TEST_CASE("Base62Of is modulo 62^digits") {
  const std::vector<std::uint8_t> bytes(8, 0xff);
  CHECK(Base62Of(bytes, 11) == "LygHa16AHYF");
  CHECK(Base62Of(bytes, 5) == "6AHYF");
}

TEST_CASE("no two numbers have the same digits where the digits suffice") {
  rc::check([](const std::vector<std::uint8_t>& bytes) {
    const std::size_t digits = bytes.size() * 8 * 100 / 595 + 1;  // a digit is 5.95 bits
    const std::string text = Base62Of(bytes, digits);
    RC_ASSERT(text.size() == digits);
    RC_ASSERT(IsBase62(text));
    RC_ASSERT(NumberOf(text, bytes.size()) == bytes);
  });
}

}  // namespace
}  // namespace throttl::internal
