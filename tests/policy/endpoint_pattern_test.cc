#include "src/policy/endpoint_pattern.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

std::string Fault(std::string_view pattern) {
  const absl::Status status = CheckEndpointPattern(pattern);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  return std::string(status.message());
}

TEST_CASE("patterns of the form \"[METHOD ]/path\" are accepted, and so is the empty one") {
  for (const char* const pattern :
       {"", "/", "/**", "/*", "/v1/search", "/v1/*/items", "/v1/*/**", "GET /", "GET /v1/search/**",
        "ABCDEFGHIJKLMNOP /v1", "/v1/...", "/v1/.well-known", "/v1/a%20b", "/v1/caf\xc3\xa9",
        "/v1/a b", "/users/{id}", "/a:b@c;d=e"}) {
    CAPTURE(std::string(pattern));
    CHECK(CheckEndpointPattern(pattern).ok());
  }
  CHECK(CheckEndpointPattern("/" + std::string(1023, 'a')).ok());
}

TEST_CASE("a pattern that is not one is refused, and the message names it and the rule") {
  using namespace std::string_view_literals;
  const std::string path = "a path must start with '/'";
  const std::string method = "a method must be 1 to 16 of A-Z";
  const std::string empty = "a segment must not be empty";
  const std::string dots = "\".\" and \"..\" segments are not allowed";
  const std::string star = "'*' must be a whole segment";
  const std::vector<std::pair<std::string, std::string>> faults = {
      {"v1", path},
      {"*", path},
      {"GET", path},
      {"GET v1", path},
      {"GET  /v1", path},
      {"GET ", path},
      {" /v1", method},
      {"get /v1", method},
      {"GET1 /v1", method},
      {"ABCDEFGHIJKLMNOPQ /v1", method},
      {"//", empty},
      {"/v1/", empty},
      {"/v1//a", empty},
      {"/v1/**/", "\"/**\" must come last"},
      {"/**/a", "\"/**\" must come last"},
      {"/.", dots},
      {"/v1/../a", dots},
      {"/v1/a*", star},
      {"/v1/***", star},
      {"/v1/*a/b", star},
      {"/v1?a=b", "'?' and '#' are not allowed: only the path of a request is matched"},
      {"/v1#a", "'?' and '#' are not allowed: only the path of a request is matched"},
  };
  for (const auto& fault : faults) {
    CHECK(Fault(fault.first) == "endpoint is \"" + fault.first + "\", " + fault.second);
  }
  CHECK(Fault("/a\0z"sv) == "endpoint is \"/a\\x00z\", control characters are not allowed");
  CHECK(Fault("/a\tb") == "endpoint is \"/a\\tb\", control characters are not allowed");
  CHECK(Fault("/a\xff") == "endpoint is \"/a\\xff\", UTF-8 is required");
}

TEST_CASE("of a long pattern the message shows 64 bytes") {
  std::string pattern;
  while (pattern.size() < 1024) pattern += "/a";
  CHECK(CheckEndpointPattern(pattern).ok());
  CHECK(Fault(pattern + "a") == "endpoint is \"" + pattern.substr(0, 64) +
                                    "...\", 1025 bytes long, at most 1024 bytes are allowed");
}

}  // namespace
}  // namespace throttl::internal
