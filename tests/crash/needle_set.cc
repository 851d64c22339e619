#include "tests/crash/needle_set.h"

#include <cctype>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include <doctest/doctest.h>

#include "src/base/absl_string.h"
#include "src/key/secret_format.h"

namespace throttl::testing {
namespace {

constexpr std::size_t kStart = 8;

std::uint64_t StartOf(const char* bytes) {
  std::uint64_t start = 0;
  std::memcpy(&start, bytes, kStart);
  return start;
}

std::size_t FirstTwo(const char* bytes) {
  return static_cast<std::size_t>(static_cast<unsigned char>(bytes[0])) << 8 |
         static_cast<unsigned char>(bytes[1]);
}

std::string Hex(std::string_view bytes) {
  return absl::BytesToHexString(internal::AbslView(bytes));
}

std::string Upper(std::string text) {
  for (char& c : text) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return text;
}

}  // namespace

void NeedleSet::Add(std::string name, std::string_view bytes) {
  REQUIRE(bytes.size() >= kStart);
  by_start_[StartOf(bytes.data())].push_back(needles_.size());
  starts_[FirstTwo(bytes.data())] = true;
  needles_.push_back({.name = std::move(name), .bytes = std::string(bytes)});
}

void NeedleSet::AddSecret(std::string_view secret) {
  const std::optional<internal::SecretParts> parts = internal::ParseSecret(secret);
  REQUIRE(parts.has_value());
  const std::string_view body = secret.substr(secret.size() - internal::kBodySize);
  const std::string_view random = body.substr(internal::kLocatorSize, internal::kRandomSize);
  const std::string name = "secret " + std::string(parts->locator) + ": ";
  Add(name + "raw", random);
  Add(name + "hex", Hex(random));
  Add(name + "HEX", Upper(Hex(random)));
  // Letters and digits never become one of the digits in which base64url differs.
  for (std::size_t skipped = 0; skipped < 3; ++skipped) {
    Add(name + "base64 at " + std::to_string(skipped), InnerBase64(random, skipped));
  }
}

void NeedleSet::AddDigest(std::string_view digest) {
  std::string base64;
  std::string base64url;
  absl::Base64Escape(internal::AbslView(digest), &base64);
  absl::WebSafeBase64Escape(internal::AbslView(digest), &base64url);
  const std::string name = "digest " + Hex(digest).substr(0, 8) + ": ";
  Add(name + "raw", digest);
  Add(name + "hex", Hex(digest));
  Add(name + "HEX", Upper(Hex(digest)));
  Add(name + "base64", std::string_view(base64).substr(0, 42));
  Add(name + "base64url", std::string_view(base64url).substr(0, 42));
}

std::vector<std::string> NeedleSet::FindIn(std::string_view text) const {
  std::set<std::size_t> found;
  for (std::size_t i = 0; i + kStart <= text.size(); ++i) {
    if (!starts_[FirstTwo(text.data() + i)]) continue;
    const auto candidates = by_start_.find(StartOf(text.data() + i));
    if (candidates == by_start_.end()) continue;
    for (const std::size_t needle : candidates->second) {
      const std::string& bytes = needles_[needle].bytes;
      if (text.substr(i, bytes.size()) == bytes) found.insert(needle);
    }
  }
  std::vector<std::string> names;
  for (const std::size_t needle : found) names.push_back(needles_[needle].name);
  return names;
}

std::string InnerBase64(std::string_view bytes, std::size_t skipped) {
  // With any bytes in the place of those before, the digits that hold only bits of `bytes` are the
  // same: drop the first ones up to those, and the last one when it holds bits that follow.
  std::string base64;
  absl::Base64Escape(internal::AbslView(std::string(skipped, 'x') + std::string(bytes)), &base64);
  const std::size_t first = (skipped * 8 + 5) / 6;
  const std::size_t last = (skipped + bytes.size()) * 8 / 6;
  return base64.substr(first, last - first);
}

}  // namespace throttl::testing
