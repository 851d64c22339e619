#include "src/key/secret_format.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "src/base/base62.h"
#include "src/base/crc32.h"
#include "tests/key/seeded_random.h"

namespace throttl::internal {
namespace {

struct Golden {
  std::string secret;
  std::string prefix;
  std::string locator;
  std::string last4;
};

// Made by an independent program: Python's zlib.crc32 and integers.
const std::vector<Golden>& Goldens() {
  static const auto* goldens = new std::vector<Golden>{
      {"thr_live_4fQ2aBcD1234abcdefghijklmnopqrstuvwxyzABCD3BMDxx", "thr_live", "4fQ2aBcD1234",
       "MDxx"},
      {"ab_0000000000000000000000000000000000000000001CtB1C", "ab", "000000000000", "tB1C"},
      {"a_b__c_9_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz16Uak5", "a_b__c_9", "zzzzzzzzzzzz",
       "Uak5"},
      {"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef2P40Ol",
       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "0123456789AB", "40Ol"},
      // Its CRC-32 is small, so its digits are padded.
      {"thr_live_Locator02021rrrrrrrrrrrrrrrrrrrrrrrrrrrrrr000Gsp", "thr_live", "Locator02021",
       "0Gsp"}};
  return *goldens;
}

TEST_CASE("ParseSecret takes apart the secrets of an independent program") {
  for (const Golden& golden : Goldens()) {
    CAPTURE(golden.secret);
    const auto parts = ParseSecret(golden.secret);
    REQUIRE(parts);
    CHECK(std::string(parts->prefix) == golden.prefix);
    CHECK(std::string(parts->locator) == golden.locator);
    CHECK(std::string(parts->last4) == golden.last4);
    CHECK(parts->prefix.data() == golden.secret.data());
  }
}

TEST_CASE("ParseSecret refuses a prefix of a wrong form, whatever follows it") {
  const std::string body = Goldens()[0].secret.substr(8);
  CHECK(ParseSecret("thr_live" + body));
  CHECK(ParseSecret("__" + body));
  CHECK(ParseSecret(std::string(32, '9') + body));
  for (const std::string& prefix :
       {std::string(), std::string("a"), std::string(33, 'a'), std::string("Thr"),
        std::string("thr-live"), std::string("thr live"), std::string("th\0r", 4),
        std::string("thr\xc3\xa9")}) {
    CAPTURE(prefix);
    CHECK_FALSE(ParseSecret(prefix + body));
  }
}

TEST_CASE("ParseSecret refuses texts that are no secrets at all") {
  CHECK_FALSE(ParseSecret(""));
  CHECK_FALSE(ParseSecret(std::string_view()));
  CHECK_FALSE(ParseSecret("thr_live_"));
  CHECK_FALSE(ParseSecret(std::string(57, '_')));
  CHECK_FALSE(ParseSecret(std::string(57, '\0')));
  CHECK_FALSE(ParseSecret(std::string(1 << 20, 'a')));
  CHECK_FALSE(ParseSecret("tk_0123456789abcdefghijklmnopqrstuv"));
}

TEST_CASE("LocatorIn finds the locator of every secret, by its length and its last '_'") {
  for (const Golden& golden : Goldens()) CHECK(LocatorIn(golden.secret) == golden.locator);
  const std::string body(kBodySize, '-');
  CHECK(LocatorIn("ab_" + body) == std::string(kLocatorSize, '-'));
  CHECK(LocatorIn(std::string(kPrefixSizeMax, '-') + "_" + body).has_value());
  CHECK_FALSE(LocatorIn("a_" + body).has_value());
  CHECK_FALSE(LocatorIn(std::string(kPrefixSizeMax + 1, 'a') + "_" + body).has_value());
  CHECK_FALSE(LocatorIn("abc-" + body).has_value());
  CHECK_FALSE(LocatorIn("").has_value());
  CHECK_FALSE(LocatorIn("_").has_value());
}

TEST_CASE("ParseSecret compares all six digits of the checksum") {
  const std::string& secret = Goldens()[0].secret;
  for (std::size_t i = secret.size() - kChecksumSize; i < secret.size(); ++i) {
    for (const char digit : kBase62Alphabet) {
      std::string changed = secret;
      changed[i] = digit;
      CAPTURE(changed);
      CHECK(ParseSecret(changed).has_value() == (changed == secret));
    }
  }
}

TEST_CASE("ParseSecret refuses characters outside of the alphabet, also under a right checksum") {
  for (int c = 0; c < 256; ++c) {
    const std::string drawn = std::string(20, 'a') + static_cast<char>(c) + std::string(21, 'b');
    const std::uint32_t crc = Crc32(drawn);
    const std::vector<std::uint8_t> bytes = {
        static_cast<std::uint8_t>(crc >> 24), static_cast<std::uint8_t>(crc >> 16),
        static_cast<std::uint8_t>(crc >> 8), static_cast<std::uint8_t>(crc)};
    CAPTURE(c);
    const bool good = kBase62Alphabet.find(static_cast<char>(c)) != std::string_view::npos;
    CHECK(ParseSecret("thr_live_" + drawn + Base62Of(bytes, 6)).has_value() == good);
  }
}

TEST_CASE("a prefix is 2 to 32 characters of a-z, 0-9 and '_'") {
  for (const char* prefix : {"ab", "__", "0_", "thr_live", "abcdefghijklmnopqrstuvwxyz_01234"}) {
    CAPTURE(std::string(prefix));
    CHECK(IsSecretPrefix(prefix));
  }
  for (const char* prefix :
       {"", "a", "_", "abcdefghijklmnopqrstuvwxyz_012345", "aB", "a-b", "a b"}) {
    CAPTURE(std::string(prefix));
    CHECK_FALSE(IsSecretPrefix(prefix));
  }
  for (int c = 0; c < 256; ++c) {
    CAPTURE(c);
    const bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    CHECK(IsSecretPrefix(std::string("x") + static_cast<char>(c)) == good);
  }
}

TEST_CASE("GenerateSecret gives secrets that ParseSecret takes apart, with the prefix asked for") {
  std::set<std::string> locators;
  for (const char* prefix : {"ab", "thr_live", "a_b__c_", "abcdefghijklmnopqrstuvwxyz_01234"}) {
    for (int i = 0; i < 100; ++i) {
      const auto secret = GenerateSecret(prefix, nullptr);
      REQUIRE(secret.ok());
      const auto parts = ParseSecret(secret->Reveal());
      REQUIRE(parts);
      CHECK(std::string(parts->prefix) == prefix);
      locators.insert(std::string(parts->locator));
    }
  }
  CHECK(locators.size() == 400);
}

TEST_CASE("GenerateSecret takes its locator and random part from the source, in this order") {
  const auto secret = GenerateSecret("thr_live", [](std::span<std::uint8_t> bytes) {
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i);
  });
  REQUIRE(secret.ok());
  CHECK(std::string(secret->Reveal()).substr(0, 51) ==
        "thr_live_" + std::string(kBase62Alphabet.substr(0, 42)));
}

TEST_CASE("GenerateSecret names a wrong prefix and its bound, and needs randomness") {
  CHECK(std::string(GenerateSecret("Thr", nullptr).status().message()) ==
        "the secret prefix is \"Thr\", 3 bytes; it has 2 to 32 of a-z, 0-9 and '_'");
  for (const std::string& prefix : {std::string(), std::string("a"), std::string(33, 'a'),
                                    std::string(1 << 20, 'a'), std::string("a\0b", 3)}) {
    const absl::Status status = GenerateSecret(prefix, nullptr).status();
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(status.message().size() < 500);
  }
  const auto broken = GenerateSecret(
      "ab", [](std::span<std::uint8_t> bytes) { std::fill(bytes.begin(), bytes.end(), 255); });
  CHECK(broken.status().code() == absl::StatusCode::kInternal);
}

// From Python's hashlib.
TEST_CASE("ImportedLocator is the digits of a hash of the digest") {
  const Sha256Digest digest = Sha256("tk_AbCdEfGhIjKlMnOpQrStUvWxYz012345");
  CHECK(ImportedLocator(digest) == "imp_3tsisVn9CmzNTaAZ0xUlXJ");
  CHECK_FALSE(ParseSecret(ImportedLocator(digest)));
}

}  // namespace
}  // namespace throttl::internal
