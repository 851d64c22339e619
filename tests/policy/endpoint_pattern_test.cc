#include "src/policy/endpoint_pattern.h"

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "tests/policy/naive_matcher.h"

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

TEST_CASE("encoded control characters and dots are refused in patterns") {
  const std::string dots = "\".\" and \"..\" segments are not allowed";
  CHECK(Fault("/a/%2e") == "endpoint is \"/a/%2e\", " + dots);
  CHECK(Fault("/%2E./a") == "endpoint is \"/%2E./a\", " + dots);
  CHECK(Fault("/a%00") == "endpoint is \"/a%00\", control characters are not allowed");
  CHECK(Fault("/a%7f/**") == "endpoint is \"/a%7f/**\", control characters are not allowed");
  CHECK(CheckEndpointPattern("/a/%2e%2e%2e").ok());
}

TEST_CASE("a pattern is brought into normal form, with its method") {
  CHECK(NormalizePattern("").empty());
  CHECK(NormalizePattern("/") == "/");
  CHECK(NormalizePattern("GET /%7eb/%2f/*/**") == "GET /~b/%2F/*/**");
  CHECK(NormalizePattern("/a/**") == "/a/**");
}

TEST_CASE("narrower patterns come first: literals, stars, no rest, a method; the empty one last") {
  const std::vector<std::string> ordered = {
      "GET /a/b/c", "/a/b/c",  "/a/b/*",  "GET /a/b/**", "/a/b/**", "/a/*/*", "/a/*",
      "/*/a",       "/a/*/**", "/a",      "/a/**",       "/*/*",    "/*",     "/*/**",
      "GET /",      "/",       "GET /**", "/**",         ""};
  for (std::size_t i = 0; i < ordered.size(); ++i) {
    for (std::size_t j = 0; j < ordered.size(); ++j) {
      CAPTURE(ordered[i]);
      CAPTURE(ordered[j]);
      const bool tied = NarrownessOf(ordered[i]) == NarrownessOf(ordered[j]);
      if (!tied) CHECK(IsNarrower(ordered[i], ordered[j]) == (i < j));
      CHECK((IsNarrower(ordered[i], ordered[j]) || IsNarrower(ordered[j], ordered[i])) == (i != j));
    }
  }
  CHECK(IsNarrower("/*/a", "/a/*"));
  CHECK(!IsNarrower("/%61", "/a"));
  CHECK(!IsNarrower("/a", "/%61"));
}

TEST_CASE("a pattern that matches a part of what another one matches is the narrower") {
  // All patterns of up to three segments, and all endpoints that tell them apart.
  std::vector<std::string> patterns = {"", "/", "/**"};
  std::vector<std::string> endpoints = {"", "/"};
  for (std::size_t i = 1; i < patterns.size() && patterns[i].size() < 7; ++i) {
    if (patterns[i].ends_with("**")) continue;
    const std::string start = patterns[i] == "/" ? "" : patterns[i];
    for (const char* const more : {"/a", "/*", "/b"}) {
      patterns.push_back(start + more);
      patterns.push_back(start + more + "/**");
    }
  }
  for (std::size_t i = 1; i < endpoints.size() && endpoints[i].size() < 8; ++i) {
    const std::string start = endpoints[i] == "/" ? "" : endpoints[i];
    for (const char* const more : {"/a", "/b", "/c"}) endpoints.push_back(start + more);
  }
  for (std::size_t i = patterns.size(); i-- > 1;) patterns.push_back("GET " + patterns[i]);
  std::vector<std::vector<bool>> matched;
  for (const std::string& pattern : patterns) {
    matched.emplace_back();
    for (const std::string& endpoint : endpoints) {
      for (const char* const method : {"GET", "PUT"}) {
        matched.back().push_back(throttl::testing::NaiveMatches(pattern, {method, endpoint}));
      }
    }
  }
  std::size_t parts = 0;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    for (std::size_t j = 0; j < patterns.size(); ++j) {
      bool part = matched[i] != matched[j];
      for (std::size_t n = 0; part && n < matched[i].size(); ++n) {
        part = !matched[i][n] || matched[j][n];
      }
      if (!part) continue;
      ++parts;
      CHECK_MESSAGE(NarrownessOf(patterns[i]) < NarrownessOf(patterns[j]),
                    patterns[i] << " and " << patterns[j]);
    }
  }
  CHECK(parts > 500);
}

}  // namespace
}  // namespace throttl::internal
