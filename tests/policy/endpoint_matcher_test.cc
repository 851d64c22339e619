#include "src/policy/endpoint_matcher.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "tests/policy/naive_matcher.h"
#include "tests/scale.h"

namespace throttl::internal {
namespace {

using testing::NaiveMatches;
using testing::Scaled;
using namespace std::string_literals;

EndpointMatcher MatcherOf(const std::vector<std::string>& patterns) {
  const std::vector<std::string_view> views(patterns.begin(), patterns.end());
  absl::StatusOr<EndpointMatcher> matcher = EndpointMatcher::Create(views);
  REQUIRE_MESSAGE(matcher.ok(), matcher.status().ToString());
  return *std::move(matcher);
}

bool Matches(const std::string& pattern, const EndpointRequest& request) {
  return MatcherOf({pattern}).Match(request) != 0;
}

struct Spelling {
  std::string pattern;
  std::string method;
  std::string endpoint;
  bool matches;
};

void CheckSpellings(const std::vector<Spelling>& spellings) {
  for (const Spelling& spelling : spellings) {
    CAPTURE(spelling.pattern);
    CAPTURE(spelling.method);
    CAPTURE(spelling.endpoint);
    CHECK(Matches(spelling.pattern, {spelling.method, spelling.endpoint}) == spelling.matches);
  }
}

TEST_CASE("'*' is one whole segment, and a last \"/**\" any rest, also none") {
  CheckSpellings({{"/a", "", "/a", true},
                  {"/a", "", "/b", false},
                  {"/a", "", "/A", false},
                  {"/a", "", "/a/b", false},
                  {"/a", "", "/", false},
                  {"/a", "", "/ab", false},
                  {"/", "", "/", true},
                  {"/", "", "/a", false},
                  {"/*", "", "/a", true},
                  {"/*", "", "/", false},
                  {"/*", "", "/a/b", false},
                  {"/a/*", "", "/a/b", true},
                  {"/a/*", "", "/a", false},
                  {"/a/*", "", "/a/", false},
                  {"/a/*/c", "", "/a/b/c", true},
                  {"/a/*/c", "", "/a/b/d", false},
                  {"/a/*/c", "", "/a//c", false},
                  {"/a/**", "", "/a", true},
                  {"/a/**", "", "/a/", true},
                  {"/a/**", "", "/a/b", true},
                  {"/a/**", "", "/a/b/c/d", true},
                  {"/a/**", "", "/ab", false},
                  {"/a/**", "", "/", false},
                  {"/**", "", "/", true},
                  {"/**", "", "/a/b", true},
                  {"/*/**", "", "/", false},
                  {"/*/**", "", "/a", true},
                  {"/*/**", "", "/a/b/c", true},
                  {"/a/*/**", "", "/a", false},
                  {"/a/*/**", "", "/a/b", true},
                  {"/a/*", "", "/a/*", true},
                  {"/a/%2A", "", "/a/b", false},
                  {"/a/%2A", "", "/a/%2a", true},
                  {"/{id}", "", "/{id}", true}});
}

TEST_CASE("a method is compared exactly: HEAD is not GET, and none is neither") {
  CheckSpellings({{"GET /a", "GET", "/a", true},
                  {"GET /a", "HEAD", "/a", false},
                  {"GET /a", "get", "/a", false},
                  {"GET /a", "GETT", "/a", false},
                  {"GET /a", "GE", "/a", false},
                  {"GET /a", "", "/a", false},
                  {"GET /a", "GET\0"s, "/a", false},
                  {"GET /a", std::string(1'000'000, 'G'), "/a", false},
                  {"ABCDEFGHIJKLMNOP /a", "ABCDEFGHIJKLMNOP", "/a", true},
                  {"/a", "", "/a", true},
                  {"/a", "BREW", "/a", true},
                  {"/a", std::string(1'000'000, 'G'), "/a", true},
                  {"GET /**", "GET", "/a", true},
                  {"GET /**", "PUT", "/a", false}});
}

TEST_CASE("of many methods each is told from the others") {
  std::vector<std::string> patterns;
  for (char letter = 'A'; letter <= 'Z'; ++letter) {
    patterns.push_back(absl::StrCat(std::string(1 + patterns.size() % 16, letter), " /a"));
  }
  const EndpointMatcher matcher = MatcherOf(patterns);
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    const std::string method = patterns[i].substr(0, patterns[i].find(' '));
    CHECK(matcher.Match({method, "/a"}) == std::uint64_t{1} << i);
    CHECK(matcher.Match({method + "A", "/a"}) == 0);
    CHECK(matcher.Match({method.substr(1), "/a"}) == 0);
  }
}

TEST_CASE("one route has one normal form, however it is spelled") {
  CheckSpellings({{"/a/b", "", "/a/b?c=/d", true},
                  {"/a/b", "", "/a/b#c", true},
                  {"/a/b", "", "/a/b/?", true},
                  {"/a/b", "", "/a/b%3Fc", false},
                  {"/a/b", "", "//a///b//", true},
                  {"/a/b", "", "/./a/./b/.", true},
                  {"/a/b", "", "/a/%2e/b/%2E/", true},
                  {"/a/b", "", "/%61/%62", true},
                  {"/a/b", "", "/a%2Fb", false},
                  {"/a/b", "", "/a%2fb", false},
                  {"/a/b", "", "/a/b ", false},
                  {"/", "", "/./", true},
                  {"/", "", "///", true},
                  {"/~-._", "", "/%7E%2d%2E%5f", true},
                  {"/%7e", "", "/~", true},
                  {"/a%2fb", "", "/a%2Fb", true},
                  {"/a%2Fb", "", "/a%2fb", true},
                  {"/a%3ab", "", "/a:b", false},
                  {"/a%zz", "", "/a%zz", true},
                  {"/a%zz", "", "/a%ZZ", false},
                  {"/a%4", "", "/a%4", true},
                  {"/%2561", "", "/a", false},
                  {"/%2561", "", "/%2561", true},
                  {"/caf\xc3\xa9", "", "/caf%C3%a9", true},
                  {"/caf%c3%a9", "", "/caf\xc3\xa9", true},
                  {"/a b", "", "/a%20b", true},
                  {"/{id}", "", "/%7Bid%7d", true},
                  {"/...", "", "/...", true},
                  {"/.well-known/a", "", "/.well-known/a", true},
                  {"/..a/b..", "", "/..a/b..", true},
                  {"/a,b", "", "/a,b", true}});
}

TEST_CASE("an irregular endpoint matches \"/**\" and the empty pattern, and no other") {
  const std::vector<std::string> irregular = {"a",
                                              "a/b",
                                              "?",
                                              "#",
                                              " /a",
                                              "GET /a",
                                              "*",
                                              "/..",
                                              "/a/..",
                                              "/a/../a",
                                              "/../a",
                                              "/a/.%2e",
                                              "/a/%2E./b",
                                              "/a/%2e%2e",
                                              "/a\0"s,
                                              "/a\n",
                                              "/a/\x1f",
                                              "/a\x7f",
                                              "/a%00",
                                              "/a%1f/b",
                                              "/a%7F",
                                              "/a/" + std::string(1'022, 'a'),
                                              std::string(1'025, '/'),
                                              "/a/" + std::string(1 << 20, 'b')};
  const EndpointMatcher matcher = MatcherOf({"", "/**", "GET /**", "/*", "/a/**", "/a", "/*/**"});
  for (const std::string& endpoint : irregular) {
    CAPTURE(endpoint.substr(0, 40));
    CHECK(matcher.Match({.method = "GET", .endpoint = endpoint}) == 0b111);
    CHECK(matcher.Match({.method = "PUT", .endpoint = endpoint}) == 0b011);
  }
  // The longest that is regular, and a query of any length.
  const std::string longest = "/a/" + std::string(1'021, 'a');
  CHECK(matcher.Match({.endpoint = longest}) == 0b1010011);
  CHECK(matcher.Match({.endpoint = longest + "?" + std::string(1 << 20, 'q')}) == 0b1010011);
  CHECK(matcher.Match({.endpoint = "/a?\x01/../%00"}) == 0b1111011);
}

TEST_CASE("an endpoint that is empty matches the empty pattern only") {
  const EndpointMatcher matcher = MatcherOf({"/**", "", "/", "GET /**", ""});
  CHECK(matcher.Match({.method = "GET"}) == 0b10010);
  CHECK(matcher.Match({.method = "GET", .endpoint = "/"}) == 0b11111);
}

TEST_CASE("patterns that are none are refused by name, and so are too many; none match nothing") {
  const std::vector<std::string_view> bad = {"/a", "b"};
  CHECK(EndpointMatcher::Create(bad).status() == CheckEndpointPattern("b"));
  const std::vector<std::string_view> many(4'097, "/a");
  CHECK(EndpointMatcher::Create(many).status().message() ==
        "endpoints are 4097 patterns, at most 4096 are allowed");
  CHECK(EndpointMatcher().Match({.endpoint = "/a"}) == 0);
  CHECK(EndpointMatcher().words() == 0);
  CHECK(MatcherOf({}).Match({.endpoint = "/a"}) == 0);
}

TEST_CASE("bit i is pattern i, of any number of them, and words beyond are left alone") {
  for (const std::size_t count : {1U, 63U, 64U, 65U, 100U, 4'096U}) {
    std::vector<std::string> patterns;
    for (std::size_t i = 0; i < count; ++i) patterns.push_back(absl::StrCat("/v1/", i % 50, "/**"));
    const EndpointMatcher matcher = MatcherOf(patterns);
    REQUIRE(matcher.size() == count);
    REQUIRE(matcher.words() == (count + 63) / 64);
    std::vector<std::uint64_t> matched(matcher.words() + 1, ~std::uint64_t{0});
    matcher.Match({.endpoint = "/v1/7/a"}, matched);
    for (std::size_t i = 0; i < 64 * matcher.words(); ++i) {
      CHECK((matched[i / 64] >> (i % 64) & 1) == (i < count && i % 50 == 7 ? 1 : 0));
    }
    CHECK(matched.back() == ~std::uint64_t{0});
  }
}

// Texts that are alike in what the matcher looks at: length, first and last bytes.
const std::vector<std::string>& Texts() {
  static const std::vector<std::string> texts = {"a",
                                                 "b",
                                                 "aa",
                                                 "aba",
                                                 "aca",
                                                 "abcd",
                                                 "abce",
                                                 "abcdefgh",
                                                 "abcdefgi",
                                                 "abcdefghi",
                                                 "bbcdefgh",
                                                 "abcdefghabcdefgh",
                                                 "abcdefghabcdefgi",
                                                 "abcdefghXabcdefgh",
                                                 "abcdefghYabcdefgh",
                                                 "caf\xc3\xa9",
                                                 ".a",
                                                 "a b",
                                                 "%2F",
                                                 "..a",
                                                 "a:b",
                                                 "{id}"};
  return texts;
}

std::string RandomPattern(std::mt19937& random) {
  if (random() % 20 == 0) return {};
  std::string pattern;
  for (std::size_t depth = random() % 4; depth > 0; --depth) {
    pattern += "/" + (random() % 3 == 0 ? "*" : Texts()[random() % Texts().size()]);
  }
  if (random() % 3 == 0) pattern += "/**";
  if (pattern.empty()) pattern = "/";
  const std::vector<std::string> methods = {"", "", "GET ", "HEAD ", "ABCDEFGHIJKLMNOP "};
  return methods[random() % methods.size()] + pattern;
}

// The pattern's path with other segments for stars, maybe spelled otherwise, maybe changed.
std::string RandomEndpoint(const std::string& pattern, std::mt19937& random) {
  std::string endpoint;
  const std::size_t slash = pattern.find('/');
  for (const char c : slash == std::string::npos ? "/a/b"s : pattern.substr(slash)) {
    const std::size_t what = random() % 60;
    if (c == '*') {
      endpoint += Texts()[random() % Texts().size()];
    } else if (what == 0) {
      endpoint += absl::StrCat("%", absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    } else if (what == 1 && c == '/') {
      const std::vector<std::string> slashes = {"//", "/./", "/%2e/", "/../", "/%2E%2e/", "/%2f/"};
      endpoint += slashes[random() % slashes.size()];
    } else if (what == 2) {
      endpoint += static_cast<char>(random() % 256);
    } else {
      endpoint += c;
    }
  }
  const std::vector<std::string> ends = {"", "", "", "", "/", "?q", "#f", "/a", "%", "%0", "%0g"};
  return endpoint + ends[random() % ends.size()];
}

TEST_CASE("what matches is what the plainest matcher says") {
  std::mt19937 random(20'260'102);
  MESSAGE("seed 20260102");
  const std::vector<std::string> methods = {"", "GET", "HEAD", "PUT", "ABCDEFGHIJKLMNOP"};
  std::int64_t matched_cases = 0;
  const std::int64_t cases = Scaled(150'000);
  std::vector<std::string> patterns;
  EndpointMatcher matcher;
  for (std::int64_t i = 0; i < cases; ++i) {
    if (i % 50 == 0) {
      patterns.resize(1 + random() % 100);
      std::generate(patterns.begin(), patterns.end(), [&random] { return RandomPattern(random); });
      matcher = MatcherOf(patterns);
    }
    const std::string endpoint = RandomEndpoint(patterns[random() % patterns.size()], random);
    const EndpointRequest request{methods[random() % methods.size()], endpoint};
    std::vector<std::uint64_t> matched(matcher.words());
    matcher.Match(request, matched);
    std::vector<std::uint64_t> expected(matcher.words());
    for (std::size_t n = 0; n < patterns.size(); ++n) {
      if (!NaiveMatches(patterns[n], request)) continue;
      expected[n / 64] |= std::uint64_t{1} << (n % 64);
      if (!patterns[n].empty()) ++matched_cases;
    }
    REQUIRE_MESSAGE(matched == expected, "case " << i << ", endpoint " << endpoint);
  }
  CHECK(matched_cases > cases);  // else hardly anything was compared
}

TEST_CASE(
    "each byte, at each place of paths up to 50 bytes, means what the plainest matcher says") {
  const std::vector<std::string> patterns = {"/*", "/*/*", "/*/*/*", "/aaaaaaaaaaaaaaa/**"};
  const EndpointMatcher matcher = MatcherOf(patterns);
  std::int64_t wrong = 0;
  for (std::size_t size = 2; size <= 50; ++size) {
    for (std::size_t place = 1; place < size; ++place) {
      for (int byte = 0; byte < 256; ++byte) {
        std::string endpoint(size, 'a');
        endpoint[0] = '/';
        if (size > 18) endpoint[16] = '/';
        endpoint[place] = static_cast<char>(byte);
        const std::uint64_t matched = matcher.Match({"", endpoint});
        for (std::size_t i = 0; i < patterns.size(); ++i) {
          if (NaiveMatches(patterns[i], {"", endpoint}) != ((matched >> i & 1) != 0)) ++wrong;
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("an endpoint that was made to have a pattern's hash does not match it") {
  // Where these eight bytes, which are XXH3's own, stand, it forgets the eight after them.
  const std::string blind = "aaaaaaaaaaaaaaaa\xde\xd4m\xe9\x83\x90\x97\xdb";
  const EndpointMatcher matcher = MatcherOf({"/aaaaaaaaaaaaaaaa%de%d4m%e9%83%90%97%dbxxxxxxxx"});
  CHECK(matcher.Match({.endpoint = "/" + blind + "xxxxxxxx"}) == 1);
  CHECK(matcher.Match({.endpoint = "/" + blind + "yyyyyyyy"}) == 0);
}

TEST_CASE("any bytes of any length are answered, and no more than 1,025 of them are looked at") {
  const EndpointMatcher matcher = MatcherOf({"", "/**", "/a/**", "/*/*"});
  std::mt19937 random(3);
  for (std::size_t size = 1; size <= (std::size_t{1} << 20); size *= 2) {
    for (const char c : {'/', '%', '.', '\0', '\xff', 'a', '?'}) {
      CHECK((matcher.Match({.endpoint = "/" + std::string(size, c)}) & 0b11) == 0b11);
      CHECK((matcher.Match({.endpoint = std::string(size, c)}) & 0b11) == 0b11);
    }
    std::string bytes = "/";
    for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(random() % 256);
    CHECK((matcher.Match({.endpoint = bytes}) & 0b11) == 0b11);
  }
  // A path that goes on beyond what is there: a reader of the whole would stop the program.
  const std::string head = "/" + std::string(1'024, 'a');
  const std::string_view boundless(head.data(), std::size_t{1} << 62);
  CHECK(matcher.Match({.endpoint = boundless}) == 0b11);
}

TEST_CASE("an endpoint that goes two ways at each segment finds all patterns, also the longest") {
  // Each of 8 levels has a literal and a star, so an endpoint goes both ways at each of them.
  std::vector<std::string> patterns;
  for (unsigned ways = 0; ways < 256; ++ways) {
    std::string pattern;
    for (unsigned level = 0; level < 8; ++level) pattern += (ways >> level & 1) != 0 ? "/*" : "/a";
    patterns.push_back(pattern);
  }
  std::string longest;
  while (longest.size() < 1'024) longest += "/a";
  patterns.push_back(longest);
  for (std::size_t i = 1; i < 1'024; i += 2) longest[i] = '*';
  patterns.push_back(longest);
  const EndpointMatcher matcher = MatcherOf(patterns);
  std::vector<std::uint64_t> matched(matcher.words());
  matcher.Match({.endpoint = "/a/a/a/a/a/a/a/a"}, matched);
  CHECK(matched == std::vector<std::uint64_t>{~0ULL, ~0ULL, ~0ULL, ~0ULL, 0});
  matcher.Match({.endpoint = "/b/a/a/a/a/a/a/a"}, matched);
  CHECK(matched[0] == 0xaaaaaaaaaaaaaaaaULL);
  std::replace(longest.begin(), longest.end(), '*', 'a');
  matcher.Match({.endpoint = longest}, matched);
  CHECK(matched == std::vector<std::uint64_t>{0, 0, 0, 0, 3});
}

TEST_CASE("the memory is at most 1 KiB and 100 bytes for each pattern and each byte of one") {
  std::mt19937 random(4);
  for (const std::size_t count : {0U, 1U, 7U, 100U, 1'000U, 4'096U}) {
    for (const bool deep : {false, true}) {
      std::vector<std::string> patterns(count);
      std::size_t bytes = 0;
      for (std::string& pattern : patterns) {
        do {
          pattern += "/" + std::string(1, static_cast<char>('a' + random() % 26));
        } while (deep && pattern.size() < 200);
        bytes += pattern.size() + 1;
      }
      CHECK(MatcherOf(patterns).memory_bytes() <= 1'024 + 100 * bytes);
    }
  }
}

TEST_CASE("a matcher can be copied and moved") {
  EndpointMatcher matcher = MatcherOf({"/a/*", "GET /a/**"});
  const EndpointMatcher copy = matcher;
  const EndpointMatcher moved = std::move(matcher);
  for (const EndpointMatcher* const one : {&copy, &moved}) {
    CHECK(one->Match({.method = "GET", .endpoint = "/a/b"}) == 3);
  }
}

}  // namespace
}  // namespace throttl::internal
