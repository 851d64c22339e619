// An endpoint pattern says which requests a rate limit applies to: "[METHOD ]/path".
//
// In the path, '*' is one whole segment and a last "/**" is any rest, also none: "/a/**" matches
// "/a". The empty pattern matches every request. A pattern without a method matches every method,
// one with a method just that, byte for byte: "GET" is not "HEAD". Paths are case-sensitive.
//
// Thread safety: pure functions.
//
//   THROTTL_RETURN_IF_ERROR(CheckEndpointPattern("GET /v1/search/**"));
#ifndef THROTTL_SRC_POLICY_ENDPOINT_PATTERN_H_
#define THROTTL_SRC_POLICY_ENDPOINT_PATTERN_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <tuple>

#include "absl/status/status.h"

namespace throttl::internal {

inline constexpr std::size_t kEndpointPatternBytesMax = 1024;
inline constexpr std::size_t kEndpointBytesMax = 1024;
inline constexpr std::size_t kMethodBytesMax = 16;

// OK for the empty pattern, and for one of at most kEndpointPatternBytesMax bytes of UTF-8 whose
// method, if any, is 1..kMethodBytesMax of A-Z, and whose path starts with '/', has no '?', '#' or
// control character, and no segment that is empty, "." or ".."; "/" alone is a path. Control
// characters and dots of such segments are refused encoded, too.
// InvalidArgument: names the pattern and the rule.
absl::Status CheckEndpointPattern(std::string_view pattern);

// The normal form, in which endpoints and patterns are compared, so that a route has one spelling:
// - Of an endpoint, what is before the first '?' or '#'.
// - "%41" is decoded to 'A', unless it encodes a reserved character of RFC 3986, section 2.2, '%',
//   or a control character; what stays encoded has upper-case digits. A '%' without two hexadecimal
//   digits stays as it is. So unreserved characters have one spelling (section 6.2.2.2), and so
//   have those that a URI holds only encoded: space, '{', everything beyond ASCII.
// - Segments that are empty or "." are left out: of "//", "/./" and a slash at the end, one slash
//   or none is left. "/" has no segment.
// An endpoint is irregular if it does not begin with '/', has a ".." segment or a control character
// (a byte of 00-1F or 7F), encoded or not, or more than kEndpointBytesMax bytes before the first
// '?' or '#'. It matches "/**", with a method or without, and the empty pattern, so that no
// spelling escapes a limit on everything. An endpoint that is empty matches the empty pattern only.

// Where a normal form is written that differs from the endpoint, and where its segments begin. Made
// without being filled.
struct EndpointBuffer {
  std::array<char, kEndpointBytesMax> bytes;
  // Each segment has a slash and at least one byte.
  std::array<std::uint16_t, kEndpointBytesMax / 2> slashes;
};

enum class EndpointKind : std::uint8_t { kEmpty, kIrregular, kRegular };

struct NormalEndpoint {
  EndpointKind kind = EndpointKind::kEmpty;
  std::string_view path = {};                   // of a regular one, in normal form; else empty
  std::span<const std::uint16_t> slashes = {};  // of the path, one before each segment
};

// Reads at most kEndpointBytesMax + 1 bytes of `endpoint`. The path lies in `endpoint` or in
// `buffer`, the slashes in `buffer`. Allocates nothing.
NormalEndpoint NormalizeEndpoint(std::string_view endpoint, EndpointBuffer& buffer);

// The pattern with its path in normal form.
// REQUIRES: CheckEndpointPattern(pattern).ok().
std::string NormalizePattern(std::string_view pattern);

// How few requests a pattern matches, as far as its form tells. What compares less is narrower:
// more literal segments first, then more '*', then without "/**", then with a method; the empty
// pattern last. A pattern that matches a part of what another one matches is always the narrower.
struct Narrowness {
  std::int32_t empty = 0;        // 1: the empty pattern
  std::int32_t fewer_texts = 0;  // minus the number of literal segments
  std::int32_t fewer_stars = 0;  // minus the number of '*' segments
  std::int32_t any_rest = 0;     // 1: it ends in "/**"
  std::int32_t any_method = 0;   // 1: it has no method

  friend bool operator==(const Narrowness&, const Narrowness&) = default;
  friend bool operator<(const Narrowness& a, const Narrowness& b) {
    return std::tie(a.empty, a.fewer_texts, a.fewer_stars, a.any_rest, a.any_method) <
           std::tie(b.empty, b.fewer_texts, b.fewer_stars, b.any_rest, b.any_method);
  }
};

// REQUIRES: CheckEndpointPattern(pattern).ok().
Narrowness NarrownessOf(std::string_view pattern);

// A total order of patterns, in which limits are spent: by Narrowness, then by the bytes of the
// normal form. Patterns that are the same in normal form are equal in it.
// REQUIRES: CheckEndpointPattern(a).ok() and of `b` too.
bool IsNarrower(std::string_view a, std::string_view b);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_POLICY_ENDPOINT_PATTERN_H_
