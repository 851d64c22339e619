// 100,000 mutations of valid secrets.

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include <doctest/doctest.h>

#include "src/base/base62.h"
#include "src/key/secret_format.h"
#include "tests/key/seeded_random.h"
#include "tests/scale.h"

namespace throttl::internal {
namespace {

struct Tally {
  std::int64_t tried = 0;
  std::int64_t refused = 0;   // by form or checksum alone; the form includes the host's prefix
  std::int64_t accepted = 0;  // well-formed, and with the digest of the original
};

class Mutator {
 public:
  Mutator(std::string secret, std::string prefix, std::uint64_t seed, Tally& tally)
      : secret_(std::move(secret)),
        prefix_(std::move(prefix)),
        digest_(Sha256(secret_)),
        random_(seed),
        tally_(tally) {}

  void TryAll() {
    FlipBits();
    Replace();
    Insert();
    DeleteAndCut();
    Swap();
    ChangeCase();
    Extend();
    LookAlikes();
    Huge();
  }

 private:
  void Try(std::string_view text) {
    if (text == secret_) return;  // no mutation
    ++tally_.tried;
    const auto parts = ParseSecret(text);
    if (!parts || parts->prefix != prefix_) ++tally_.refused;
    if (parts && Sha256(text) == digest_) ++tally_.accepted;
  }

  // `secret_` with `count` bytes at `at` replaced.
  void TryWith(std::size_t at, std::size_t count, std::string_view by) {
    std::string text = secret_;
    Try(text.replace(at, count, by));
  }

  std::size_t Below(std::size_t end) {
    return std::uniform_int_distribution<std::size_t>(0, end - 1)(random_);
  }

  char Digit() { return kBase62Alphabet[Below(kBase62Alphabet.size())]; }

  void FlipBits() {
    for (std::size_t bit = 0; bit < secret_.size() * 8; ++bit) {
      std::string text = secret_;
      text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
      Try(text);
    }
  }

  void Replace() {
    for (std::size_t i = 0; i < secret_.size(); ++i) {
      TryWith(i, 1, std::string(1, Digit()));
      for (const char c : {'\0', '_', '-', ' ', '0', 'O', 'l', '\x7f', '\xff'}) {
        TryWith(i, 1, {&c, 1});
      }
      std::string two = secret_;
      two[i] = Digit();
      two[Below(two.size())] = Digit();
      Try(two);
    }
  }

  void Insert() {
    for (std::size_t i = 0; i <= secret_.size(); ++i) {
      TryWith(i, 0, std::string(1, Digit()));
      TryWith(i, 0, std::string_view("\0", 1));
      TryWith(i, 0, "_");
      TryWith(i, 0, " ");
      TryWith(i, 0, "\xe2\x80\x8b");  // zero width space
      if (i < secret_.size()) TryWith(i, 0, secret_.substr(i, 1));
    }
  }

  void DeleteAndCut() {
    for (std::size_t i = 0; i < secret_.size(); ++i) {
      TryWith(i, 1, "");
      TryWith(i, 1 + Below(4), "");
      Try(secret_.substr(0, i));
      Try(secret_.substr(i));
    }
  }

  void Swap() {
    for (std::size_t i = 0; i + 1 < secret_.size(); ++i) {
      std::string text = secret_;
      std::swap(text[i], text[i + 1]);
      Try(text);
      text = secret_;
      std::swap(text[i], text[Below(text.size())]);
      Try(text);
    }
  }

  static char OtherCase(char c) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return letter ? static_cast<char>(c ^ 0x20) : c;
  }

  void ChangeCase() {
    std::string all = secret_;
    for (std::size_t i = 0; i < secret_.size(); ++i) {
      all[i] = OtherCase(secret_[i]);
      TryWith(i, 1, all.substr(i, 1));
    }
    Try(all);
  }

  void Extend() {
    std::string before;
    std::string after;
    for (int i = 0; i < 8; ++i) {
      before += Digit();
      after += Digit();
      Try(before + secret_);
      Try(secret_ + after);
    }
    for (const char* space : {" ", "\n", "\r\n", "\t", "_", "=", "\"", "\xef\xbb\xbf"}) {
      Try(space + secret_);
      Try(secret_ + space);
      Try(space + secret_ + space);
    }
    Try("Bearer " + secret_);
    Try(secret_ + std::string(1, '\0'));
    Try(secret_ + std::string(1, '\0') + after);
  }

  void LookAlikes() {
    static constexpr std::array<std::pair<char, std::string_view>, 12> kCyrillicOrGreek = {
        {{'a', "\xd0\xb0"},
         {'c', "\xd1\x81"},
         {'e', "\xd0\xb5"},
         {'i', "\xd1\x96"},
         {'o', "\xce\xbf"},
         {'p', "\xd1\x80"},
         {'x', "\xd1\x85"},
         {'y', "\xd1\x83"},
         {'A', "\xce\x91"},
         {'B', "\xce\x92"},
         {'E', "\xce\x95"},
         {'H', "\xd0\x9d"}}};
    for (std::size_t i = 0; i < secret_.size(); ++i) {
      const auto c = static_cast<unsigned>(secret_[i]);
      const unsigned wide = 0xff00 + c - 0x20;  // the full-width form
      const std::array<char, 3> bytes = {static_cast<char>(0xe0 | wide >> 12),
                                         static_cast<char>(0x80 | (wide >> 6 & 0x3f)),
                                         static_cast<char>(0x80 | (wide & 0x3f))};
      TryWith(i, 1, {bytes.data(), bytes.size()});
      TryWith(i + 1, 0, "\xcc\x81");  // a combining accent
      for (const auto& [latin, like] : kCyrillicOrGreek) {
        if (secret_[i] == latin) TryWith(i, 1, like);
      }
    }
  }

  void Huge() {
    static const std::string megabyte(1 << 20, 'a');
    Try(megabyte);
    Try(megabyte + secret_);
    Try(secret_ + megabyte);
  }

  const std::string secret_;
  const std::string prefix_;
  const Sha256Digest digest_;
  std::mt19937_64 random_;
  Tally& tally_;
};

TEST_CASE("of 100,000 mutated secrets none is accepted, 99.99 % fail by form or checksum alone") {
  const std::uint64_t seed = std::random_device()();
  MESSAGE(("seed " + std::to_string(seed)));
  const RandomBytes random = testing::SeededRandom(seed);
  const std::array<std::string, 3> prefixes = {"thr_live", "a_b__c_9", "ab"};
  Tally tally;
  for (std::size_t i = 0; tally.tried < testing::Scaled(100'000); ++i) {
    const std::string& prefix = prefixes[i % prefixes.size()];
    const auto secret = GenerateSecret(prefix, random);
    REQUIRE(secret.ok());
    const std::string text(secret->Reveal());
    REQUIRE(ParseSecret(text));
    Mutator(text, prefix, seed + i, tally).TryAll();
  }
  MESSAGE((std::to_string(tally.tried) + " mutations, " + std::to_string(tally.refused) +
           " refused by form or checksum, " + std::to_string(tally.accepted) + " accepted"));
  CHECK(tally.accepted == 0);
  CHECK(tally.refused * 10'000 >= tally.tried * 9'999);
}

}  // namespace
}  // namespace throttl::internal
