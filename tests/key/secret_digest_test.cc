#include "src/key/secret_digest.h"

#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

std::vector<Pepper> Peppers(std::vector<std::pair<std::int32_t, std::string>> pairs) {
  std::vector<Pepper> peppers;
  for (auto& [version, value] : pairs) {
    peppers.push_back({.version = version, .value = Secret(value)});
  }
  return peppers;
}

std::string RefusalOf(std::int32_t version, const std::string& value) {
  const auto set = PepperSet::Create(Peppers({{version, value}}));
  CHECK(set.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(set.status().message());
}

Sha256Digest DigestOf(const std::string& hex) { return ParseSha256Digest(hex).value(); }

// From Python's hmac.
TEST_CASE("a digest is HMAC-SHA-256 of the SHA-256 under the pepper of its version") {
  const auto set = PepperSet::Create(
      Peppers({{7, std::string(64, 'P')}, {2, "0123456789abcdef"}, {5, std::string(20, 'x')}}));
  REQUIRE(set.ok());
  const Sha256Digest sha256 = Sha256("tk_AbCdEfGhIjKlMnOpQrStUvWxYz012345");
  CHECK(set->Digest(sha256, 2).value() ==
        DigestOf("79bba73acdae1f783cab8bd136c0db0fe7d2bb0dcef8a677b14068ef52a84bf2"));
  CHECK(set->Digest(sha256, 7).value() ==
        DigestOf("74a8500e2154cb0a5b4c113871024f7c6d6380cf8710a5eac195a49192607c59"));
  CHECK(set->newest_version() == 7);
}

TEST_CASE("version 0 is the SHA-256 itself, with and without peppers") {
  const Sha256Digest sha256 = Sha256("text");
  const auto none = PepperSet::Create({});
  REQUIRE(none.ok());
  CHECK(none->newest_version() == 0);
  CHECK(none->Has(0));
  CHECK(none->Digest(sha256, 0).value() == sha256);
  const auto one = PepperSet::Create(Peppers({{1, std::string(16, 'a')}}));
  REQUIRE(one.ok());
  CHECK(one->Has(0));
  CHECK(one->Digest(sha256, 0).value() == sha256);
  CHECK(one->Digest(sha256, 1).value() != sha256);
}

TEST_CASE("a version that was not given is FailedPrecondition and named") {
  const auto set =
      PepperSet::Create(Peppers({{1, std::string(16, 'a')}, {3, std::string(16, 'b')}}));
  REQUIRE(set.ok());
  for (const std::int32_t version : {2, 4, 1000, -1}) {
    CAPTURE(version);
    CHECK_FALSE(set->Has(version));
    const auto digest = set->Digest(Sha256("text"), version);
    CHECK(digest.status().code() == absl::StatusCode::kFailedPrecondition);
    CHECK(std::string(digest.status().message()) ==
          "pepper version " + std::to_string(version) + " was not given");
  }
  CHECK(set->Has(1));
  CHECK(set->Has(3));
}

TEST_CASE("versions are 1 to 1000 and values 16 to 64 bytes; errors name the value and the bound") {
  for (const std::int32_t version : {1, 1000}) {
    for (const std::size_t size : {16U, 64U}) {
      CHECK(PepperSet::Create(Peppers({{version, std::string(size, 'a')}})).ok());
    }
  }
  CHECK(RefusalOf(0, std::string(16, 'a')) == "a pepper's version is 0, 1 to 1000 is allowed");
  CHECK(RefusalOf(-5, std::string(16, 'a')) == "a pepper's version is -5, 1 to 1000 is allowed");
  CHECK(RefusalOf(1001, std::string(16, 'a')) ==
        "a pepper's version is 1001, 1 to 1000 is allowed");
  CHECK(RefusalOf(9, std::string(15, 'a')) ==
        "the pepper of version 9 has 15 bytes, 16 to 64 are allowed");
  CHECK(RefusalOf(9, std::string(65, 'a')) ==
        "the pepper of version 9 has 65 bytes, 16 to 64 are allowed");
  CHECK(RefusalOf(9, "") == "the pepper of version 9 has 0 bytes, 16 to 64 are allowed");
}

TEST_CASE("two peppers of one version are refused") {
  const auto set = PepperSet::Create(
      Peppers({{4, std::string(16, 'a')}, {1, std::string(16, 'b')}, {4, std::string(16, 'a')}}));
  CHECK(set.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(set.status().message()) == "pepper version 4 is given more than once");
}

}  // namespace
}  // namespace throttl::internal
