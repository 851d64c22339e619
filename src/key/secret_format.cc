#include "src/key/secret_format.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

#include "src/base/base62.h"
#include "src/base/crc32.h"
#include "src/base/sha256.h"
#include "src/base/text_check.h"
#include "src/base/wipe.h"

namespace throttl::internal {
namespace {

std::array<char, kChecksumSize> ChecksumOf(std::string_view text) {
  const std::uint32_t crc = Crc32(text);
  const std::array<std::uint8_t, 4> bytes = {
      static_cast<std::uint8_t>(crc >> 24), static_cast<std::uint8_t>(crc >> 16),
      static_cast<std::uint8_t>(crc >> 8), static_cast<std::uint8_t>(crc)};
  std::array<char, kChecksumSize> digits = {};
  WriteBase62(bytes, digits);
  return digits;
}

}  // namespace

bool IsSecretPrefix(std::string_view text) {
  return text.size() >= kPrefixSizeMin && text.size() <= kPrefixSizeMax &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
         });
}

std::optional<SecretParts> ParseSecret(std::string_view secret) {
  constexpr std::size_t kTailSize = 1 + kBodySize;
  if (secret.size() < kTailSize) return std::nullopt;
  const std::string_view prefix = secret.substr(0, secret.size() - kTailSize);
  const std::string_view body = secret.substr(secret.size() - kBodySize);
  if (!IsSecretPrefix(prefix) || secret[prefix.size()] != '_' || !IsBase62(body)) {
    return std::nullopt;
  }
  const auto checksum = ChecksumOf(body.substr(0, kLocatorSize + kRandomSize));
  if (!std::equal(checksum.begin(), checksum.end(), body.end() - kChecksumSize)) {
    return std::nullopt;
  }
  return SecretParts{.prefix = prefix,
                     .locator = body.substr(0, kLocatorSize),
                     .last4 = body.substr(kBodySize - 4)};
}

absl::StatusOr<Secret> GenerateSecret(std::string_view prefix, const RandomBytes& random) {
  if (!IsSecretPrefix(prefix)) {
    return absl::InvalidArgumentError(absl::StrCat("the secret prefix is ", Quoted(prefix), ", ",
                                                   prefix.size(), " bytes; it has ", kPrefixSizeMin,
                                                   " to ", kPrefixSizeMax, " of a-z, 0-9 and '_'"));
  }
  std::string text;
  // All of it at once: a string that grows would leave parts of the secret in freed memory.
  text.reserve(prefix.size() + 1 + kBodySize);
  text.append(prefix).push_back('_');
  absl::Status status = AppendRandomBase62(random, kLocatorSize + kRandomSize, text);
  if (!status.ok()) return status;
  const auto checksum = ChecksumOf(std::string_view(text).substr(prefix.size() + 1));
  text.append(checksum.data(), checksum.size());
  return Secret(std::move(text));
}

std::string ImportedLocator(const Sha256Digest& digest) {
  // One initialiser longer than its characters: the NUL that ends the literal is part of the text.
  constexpr char kPurpose[] = "throttl imported secret";
  const Sha256Digest hash = Sha256Of({{kPurpose, sizeof(kPurpose)}, DigestBytes(digest)});
  return "imp_" + Base62Of(std::span(hash).first(16), 22);
}

}  // namespace throttl::internal
