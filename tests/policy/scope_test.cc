#include "src/policy/scope.h"

#include <string>
#include <string_view>

#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

std::string Fault(std::string_view scope) {
  const absl::Status status = CheckScope(scope);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST_CASE("a scope is 1 to 127 printable ASCII bytes without space, quote and backslash") {
  for (int byte = 1; byte < 256; ++byte) {
    CAPTURE(byte);
    const bool allowed = byte >= 0x21 && byte <= 0x7e && byte != '"' && byte != '\\';
    CHECK(CheckScope("a" + std::string(1, static_cast<char>(byte)) + "b").ok() == allowed);
  }
  CHECK(CheckScope("a").ok());
  CHECK(CheckScope(std::string(127, 'a')).ok());
}

TEST_CASE("a scope that is not one is refused, and the message names it and the rule") {
  using namespace std::string_view_literals;
  CHECK(Fault("") == "scope is empty, 1 to 127 bytes are required");
  CHECK(Fault(std::string(128, 'a')) == "scope is 128 bytes long, at most 127 bytes are allowed");
  CHECK(Fault("a\0z"sv) == "scope is \"a\\x00z\", control characters are not allowed");
  CHECK(Fault("a\xff") == "scope is \"a\\xff\", UTF-8 is required");
  CHECK(Fault("read write") ==
        "scope is \"read write\", only printable ASCII without space, '\"' and '\\' is allowed");
}

}  // namespace
}  // namespace throttl::internal
