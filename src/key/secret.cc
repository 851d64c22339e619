#include "throttl/secret.h"

#include <cstddef>
#include <ostream>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "src/base/sha256.h"
#include "src/base/wipe.h"
#include "src/key/secret_format.h"

namespace throttl {
namespace {

constexpr std::size_t kHexSize = 64;
constexpr std::size_t kBase64Size = 43;  // without its padding

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The value of a digit that base64 and base64url share, or of the two that only the one meant has.
int Base64Value(char c, bool url) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == (url ? '-' : '+')) return 62;
  if (c == (url ? '_' : '/')) return 63;
  return -1;
}

// Says where the mistake is and nothing of the text, which may be a digest but for that character.
absl::Status BadCharacter(std::size_t index, std::string_view kind) {
  return absl::InvalidArgumentError(absl::StrCat("character ", index + 1,
                                                 " of the SHA-256 digest is not ",
                                                 absl::string_view(kind.data(), kind.size())));
}

absl::StatusOr<Sha256Digest> ParseHex(std::string_view text) {
  Sha256Digest digest = {};
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int value = HexValue(text[i]);
    if (value < 0) return BadCharacter(i, "a hexadecimal digit, as it is with 64 characters");
    digest[i / 2] = static_cast<std::uint8_t>(digest[i / 2] << 4 | value);
  }
  return digest;
}

absl::StatusOr<Sha256Digest> ParseBase64(std::string_view text) {
  const bool url = text.find_first_of("-_") != std::string_view::npos;
  Sha256Digest digest = {};
  std::uint32_t bits = 0;
  int bit_count = 0;
  std::size_t size = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int value = Base64Value(text[i], url);
    if (value < 0) return BadCharacter(i, url ? "a digit of base64url" : "a digit of base64");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    bit_count += 6;
    if (bit_count >= 8) {
      bit_count -= 8;
      digest[size++] = static_cast<std::uint8_t>(bits >> bit_count);
    }
  }
  // 43 digits are two bits more than 32 bytes. Were they free, four texts would be one digest.
  if ((bits & 3) != 0) return BadCharacter(text.size() - 1, "one that can end 32 bytes in base64");
  return digest;
}

}  // namespace

Secret::Secret(std::string text) : text_(std::move(text)) { internal::Wipe(text); }

Secret::~Secret() { internal::Wipe(text_); }

Secret::Secret(const Secret&) = default;

Secret& Secret::operator=(const Secret& other) {
  Secret copy(other);  // first, so that this keeps its text if there is no memory
  return *this = std::move(copy);
}

// A string that was moved from keeps short texts in its buffer, so it is wiped too.
Secret::Secret(Secret&& other) noexcept : text_(std::move(other.text_)) {
  internal::Wipe(other.text_);
}

Secret& Secret::operator=(Secret&& other) noexcept {
  if (this == &other) return *this;
  internal::Wipe(text_);
  text_ = std::move(other.text_);
  internal::Wipe(other.text_);
  return *this;
}

std::string_view Secret::Reveal() const& { return text_; }

bool Secret::empty() const { return text_.empty(); }

std::ostream& operator<<(std::ostream& out, const Secret&) { return out << "[secret]"; }

std::string MaskSecret(std::string_view secret) {
  const auto parts = internal::ParseSecret(secret);
  if (!parts) return "[malformed]";
  std::string masked(parts->prefix);
  return masked.append("_").append(parts->locator).append("...");
}

std::string SecretPattern(std::string_view prefix) {
  // No secret has another prefix, and none is put into the pattern that has a meaning there.
  if (!internal::IsSecretPrefix(prefix)) return R"(\b\B)";
  std::string pattern = R"(\b)";
  return pattern.append(prefix)
      .append("_[0-9A-Za-z]{")
      .append(std::to_string(internal::kBodySize))
      .append(R"(}\b)");
}

Sha256Digest Sha256(std::string_view text) { return internal::Sha256Of({text}); }

absl::StatusOr<Sha256Digest> ParseSha256Digest(std::string_view text) {
  if (text.size() == kHexSize) return ParseHex(text);
  if (text.size() == kBase64Size) return ParseBase64(text);
  if (text.size() == kBase64Size + 1) {
    if (text.back() != '=') return BadCharacter(kBase64Size, "the '=' that ends 44 of base64");
    return ParseBase64(text.substr(0, kBase64Size));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "a SHA-256 digest has 64 hexadecimal or 43 or 44 base64 characters, this has ", text.size()));
}

}  // namespace throttl
