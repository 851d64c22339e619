// The format of the secrets that Throttl issues: how they are made and taken apart.
//
// <prefix>_<12 base62 locator><30 base62 random><6 base62 CRC-32 (IEEE) of these 42 characters>.
// The prefix may hold '_' itself, so a secret is read from the right. It is not under the checksum:
// a wrong prefix is found by the digest, which is of the whole secret.
//
// Thread safety: pure functions.
//
//   if (const auto parts = ParseSecret(text)) Find(parts->locator);
#ifndef THROTTL_SRC_KEY_SECRET_FORMAT_H_
#define THROTTL_SRC_KEY_SECRET_FORMAT_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

#include "throttl/secret.h"

#include "src/base/random_bytes.h"

namespace throttl::internal {

inline constexpr std::size_t kPrefixSizeMin = 2;
inline constexpr std::size_t kPrefixSizeMax = 32;
inline constexpr std::size_t kLocatorSize = 12;
inline constexpr std::size_t kRandomSize = 30;
inline constexpr std::size_t kChecksumSize = 6;
// What follows the prefix and its '_'.
inline constexpr std::size_t kBodySize = kLocatorSize + kRandomSize + kChecksumSize;

// Whether `text` is 2 to 32 characters of a-z, 0-9 and '_'.
bool IsSecretPrefix(std::string_view text);

// Views into the secret that was parsed. The locator and the last four characters may be shown.
struct SecretParts {
  std::string_view prefix;
  std::string_view locator;
  std::string_view last4;
};

// Takes `secret` apart if its form, alphabet, length and checksum are right; that says nothing of
// whether it was ever issued. Any prefix of the right form will do. Allocates nothing, and reads
// no text of another length.
std::optional<SecretParts> ParseSecret(std::string_view secret);

// Where the locator of a secret that Throttl issued stands, from its length and its last '_' alone:
// a text that is no secret may have one too. std::nullopt: no secret of ours is like that.
inline std::optional<std::string_view> LocatorIn(std::string_view secret) {
  constexpr std::size_t kTailSize = 1 + kBodySize;
  if (secret.size() < kPrefixSizeMin + kTailSize || secret.size() > kPrefixSizeMax + kTailSize ||
      secret[secret.size() - kTailSize] != '_') {
    return std::nullopt;
  }
  return secret.substr(secret.size() - kBodySize, kLocatorSize);
}

// A new secret with its locator. InvalidArgument: the prefix. Internal: as RandomBase62.
absl::StatusOr<Secret> GenerateSecret(std::string_view prefix, const RandomBytes& random);

// What stands for a locator where a secret is known by its SHA-256 only: "imp_" and 22 base62
// digits, the first 128 bits of SHA-256("throttl imported secret" NUL digest). No part of the
// digest itself shows, and no issued secret has it: their locators have 12 characters.
std::string ImportedLocator(const Sha256Digest& digest);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_KEY_SECRET_FORMAT_H_
