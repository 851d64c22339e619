#include <cstdint>
#include <random>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "throttl/secret.h"

#include "src/base/base62.h"
#include "src/key/secret_format.h"
#include "tests/key/seeded_random.h"
#include "tests/scale.h"

namespace throttl::internal {
namespace {

std::string NewSecret(std::string_view prefix, const RandomBytes& random) {
  const auto secret = GenerateSecret(prefix, random);
  return std::string(secret->Reveal());
}

class Noise {
 public:
  explicit Noise(std::uint64_t seed) : random_(seed), secrets_(testing::SeededRandom(seed)) {}

  std::string SecretText() { return NewSecret("thr_live", secrets_); }

  // Something that is no secret: any bytes, a word, or what is nearly a secret.
  std::string Next() {
    const std::string secret = SecretText();
    switch (Below(11)) {
      case 0:
        return secret.substr(0, secret.size() - 1);
      case 1:
        return secret + kBase62Alphabet[Below(62)];
      case 2:
        return secret + "_";
      case 3:
        return "x" + secret;
      case 4:
        return "_" + secret;
      case 5:
        return "thr_test" + secret.substr(8);
      case 6:
        return "THR_LIVE" + secret.substr(8);
      case 7:
        return secret.substr(0, 30) + "-" + secret.substr(31);
      case 8:
        return "thr_live" + secret.substr(9);
      case 9:
        return RandomBase62(secrets_, 1 + Below(100)).value();
      default:
        return Bytes();
    }
  }

  std::string Separator() {
    static const std::string separators = " \n\t\"'=:,/.-(\0";
    return separators.substr(Below(separators.size()), 1);
  }

 private:
  std::size_t Below(std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random_);
  }

  std::string Bytes() {
    std::string bytes(Below(1000), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random_());
    return bytes;
  }

  std::mt19937_64 random_;
  RandomBytes secrets_;
};

TEST_CASE("SecretPattern finds 1,000 of 1,000 secrets in 10 MB of noise, and nothing else") {
  const std::uint64_t seed = std::random_device()();
  MESSAGE(("seed " + std::to_string(seed)));
  Noise noise(seed);
  const auto planted_count = static_cast<std::size_t>(testing::Scaled(1'000));
  std::string text;
  std::vector<std::ptrdiff_t> planted;
  while (planted.size() < planted_count) {
    for (const std::size_t end = text.size() + 10'000; text.size() < end;) {
      text += noise.Next() + noise.Separator();
    }
    planted.push_back(static_cast<std::ptrdiff_t>(text.size()));
    text += noise.SecretText() + noise.Separator();
  }
  std::vector<std::ptrdiff_t> found;
  const std::regex pattern(SecretPattern("thr_live"));
  for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) {
    found.push_back(it->position());
    CHECK(ParseSecret(it->str()));
  }
  CHECK(text.size() >= planted_count * 10'000);
  CHECK(found == planted);
}

TEST_CASE("SecretPattern finds secrets at both ends of a text, and any allowed prefix") {
  for (const char* prefix : {"ab", "__", "_a_", "0x", "abcdefghijklmnopqrstuvwxyz_01234"}) {
    CAPTURE(std::string(prefix));
    const std::string secret = NewSecret(prefix, nullptr);
    CHECK(std::regex_match(secret, std::regex(SecretPattern(prefix))));
  }
  CHECK(SecretPattern("thr_live") == R"(\bthr_live_[0-9A-Za-z]{48}\b)");
}

TEST_CASE("SecretPattern of what cannot be a prefix is a pattern that finds nothing") {
  for (const char* prefix : {"", "a", ".*", "(", "a|b", "[", "\\", "Thr", "a.c"}) {
    CAPTURE(std::string(prefix));
    const std::regex pattern(SecretPattern(prefix));
    CHECK_FALSE(std::regex_search(prefix + std::string("_") + std::string(48, '0'), pattern));
    CHECK_FALSE(std::regex_search("", pattern));
  }
}

}  // namespace
}  // namespace throttl::internal
