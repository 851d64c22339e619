#include "throttl/secret.h"

#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include <doctest/doctest.h>

#include "src/base/absl_string.h"
#include "src/base/sha256.h"
#include "src/key/secret_format.h"

namespace throttl {
namespace {

// "tk_0123..." and its SHA-256 as other systems keep it, from Python's hashlib and base64.
constexpr char kForeignSecret[] = "tk_0123456789abcdefghijklmnopqrstuv";
constexpr char kForeignHex[] = "f6e5a95990cc2828a3ae7b9b38d552ac71bbdc129427ff6110d3cc402ccd705e";
constexpr char kForeignBase64[] = "9uWpWZDMKCijrnubONVSrHG73BKUJ/9hENPMQCzNcF4=";
constexpr char kForeignBase64Url[] = "9uWpWZDMKCijrnubONVSrHG73BKUJ_9hENPMQCzNcF4=";

std::string Replaced(std::string text, std::size_t at, char by) {
  text[at] = by;
  return text;
}

// The message of a refusal, after checking that no eight characters of the text show in it.
std::string RefusalOf(const std::string& text) {
  const auto digest = ParseSha256Digest(text);
  REQUIRE_FALSE(digest.ok());
  CHECK(digest.status().code() == absl::StatusCode::kInvalidArgument);
  const std::string message(digest.status().message());
  for (std::size_t i = 0; i + 8 <= text.size(); ++i) {
    if (message.find(text.substr(i, 8)) != std::string::npos) FAIL_CHECK("the text is shown");
  }
  return message;
}

TEST_CASE("a Secret shows itself when asked, and copies and moves like a text") {
  const Secret secret("text");
  CHECK(std::string(secret.Reveal()) == "text");
  CHECK_FALSE(secret.empty());
  Secret copy = secret;
  CHECK(copy.Reveal() == secret.Reveal());
  CHECK(copy.Reveal().data() != secret.Reveal().data());
  const Secret moved = std::move(copy);
  CHECK(std::string(moved.Reveal()) == "text");
  CHECK(Secret().empty());
  static_assert(std::is_nothrow_move_constructible_v<Secret>);
  static_assert(std::is_nothrow_move_assignable_v<Secret>);
}

TEST_CASE("a Secret is printed as [secret]") {
  std::ostringstream out;
  out << Secret("text") << Secret();
  CHECK(out.str() == "[secret][secret]");
}

TEST_CASE("MaskSecret shows a secret up to its locator") {
  CHECK(MaskSecret("thr_live_4fQ2aBcD1234abcdefghijklmnopqrstuvwxyzABCD3BMDxx") ==
        "thr_live_4fQ2aBcD1234...");
  CHECK(MaskSecret("a_b__c_9_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz16Uak5") ==
        "a_b__c_9_zzzzzzzzzzzz...");
}

TEST_CASE("MaskSecret shows nothing of anything else") {
  CHECK(MaskSecret("") == "[malformed]");
  CHECK(MaskSecret(kForeignSecret) == "[malformed]");
  CHECK(MaskSecret("thr_live_4fQ2aBcD1234abcdefghijklmnopqrstuvwxyzABCD3BMDxy") == "[malformed]");
  CHECK(MaskSecret(std::string(1 << 20, 'a')) == "[malformed]");
}

TEST_CASE("Sha256 is the SHA-256 that other systems store") {
  CHECK(ParseSha256Digest(kForeignHex).value() == Sha256(kForeignSecret));
  CHECK(Sha256("") != Sha256(std::string(1, '\0')));
}

TEST_CASE("ParseSha256Digest reads hex in either case, base64 and base64url, padded or not") {
  const Sha256Digest digest = Sha256(kForeignSecret);
  std::string upper = kForeignHex;
  for (char& c : upper) {
    if (c >= 'a') c = static_cast<char>(c - 0x20);
  }
  for (const std::string& text : {std::string(kForeignHex), upper, std::string(kForeignBase64),
                                  std::string(kForeignBase64Url), std::string(kForeignBase64, 43),
                                  std::string(kForeignBase64Url, 43)}) {
    CAPTURE(text);
    CHECK(ParseSha256Digest(text).value() == digest);
  }
}

TEST_CASE("ParseSha256Digest reads what is written of any digest") {
  for (int i = 0; i < 1000; ++i) {
    const Sha256Digest digest = Sha256(std::to_string(i));
    const absl::string_view bytes = internal::AbslView(internal::DigestBytes(digest));
    CHECK(ParseSha256Digest(absl::BytesToHexString(bytes)).value() == digest);
    CHECK(ParseSha256Digest(absl::Base64Escape(bytes)).value() == digest);
    CHECK(ParseSha256Digest(absl::WebSafeBase64Escape(bytes)).value() == digest);
  }
}

TEST_CASE("ParseSha256Digest refuses every other length and names it") {
  for (const std::size_t size : {0U, 1U, 32U, 42U, 45U, 63U, 65U, 128U, 1U << 20}) {
    CHECK(RefusalOf(std::string(size, 'a')) ==
          "a SHA-256 digest has 64 hexadecimal or 43 or 44 base64 characters, this has " +
              std::to_string(size));
  }
}

TEST_CASE("ParseSha256Digest names the place of a wrong character") {
  for (std::size_t i = 0; i < 64; ++i) {
    for (const char c : {'g', 'G', '/', ':', '@', '`', '\0', ' ', '\xff'}) {
      CHECK(RefusalOf(Replaced(kForeignHex, i, c)) ==
            "character " + std::to_string(i + 1) +
                " of the SHA-256 digest is not a hexadecimal digit, as it is with 64 characters");
    }
  }
  for (std::size_t i = 0; i < 43; ++i) {
    for (const char c : {'=', '.', '\0', ' ', '\n', '\xff', '@', '[', '{', '`'}) {
      CHECK(RefusalOf(Replaced(kForeignBase64, i, c)) ==
            "character " + std::to_string(i + 1) +
                " of the SHA-256 digest is not a digit of base64");
    }
  }
}

TEST_CASE("ParseSha256Digest refuses a mixture of base64 and base64url") {
  CHECK(RefusalOf(Replaced(kForeignBase64, 2, '_')) ==
        "character 30 of the SHA-256 digest is not a digit of base64url");
  CHECK(RefusalOf(Replaced(kForeignBase64Url, 2, '+')) ==
        "character 3 of the SHA-256 digest is not a digit of base64url");
}

TEST_CASE("ParseSha256Digest refuses wrong padding") {
  for (const char c : {'A', '-', ' ', '\n', '\0'}) {
    CHECK(RefusalOf(Replaced(kForeignBase64, 43, c)) ==
          "character 44 of the SHA-256 digest is not the '=' that ends 44 of base64");
  }
}

TEST_CASE(
    "ParseSha256Digest takes one text of a kind for a digest: the last digit has no spare bits") {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  int taken = 0;
  for (const char digit : digits) {
    const std::string text = Replaced(kForeignBase64, 42, digit);
    if (ParseSha256Digest(text).ok()) {
      ++taken;
    } else {
      CHECK(RefusalOf(text) ==
            "character 43 of the SHA-256 digest is not one that can end 32 bytes in base64");
    }
  }
  CHECK(taken == 16);
}

}  // namespace
}  // namespace throttl
