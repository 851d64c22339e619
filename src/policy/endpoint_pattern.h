// An endpoint pattern says which requests a rate limit applies to: "[METHOD ]/path".
//
// In the path, '*' is one whole segment and a last "/**" is any rest. The empty pattern is every
// request.
//
// Thread safety: pure functions.
//
//   THROTTL_RETURN_IF_ERROR(CheckEndpointPattern("GET /v1/search/**"));
#ifndef THROTTL_SRC_POLICY_ENDPOINT_PATTERN_H_
#define THROTTL_SRC_POLICY_ENDPOINT_PATTERN_H_

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"

namespace throttl::internal {

inline constexpr std::size_t kEndpointPatternBytesMax = 1024;
inline constexpr std::size_t kMethodBytesMax = 16;

// OK for the empty pattern, and for one of at most kEndpointPatternBytesMax bytes of UTF-8 whose
// method, if any, is 1..kMethodBytesMax of A-Z, and whose path starts with '/', has no '?', '#' or
// control character, and no segment that is empty, "." or ".."; "/" alone is a path.
// InvalidArgument: names the pattern and the rule.
absl::Status CheckEndpointPattern(std::string_view pattern);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_POLICY_ENDPOINT_PATTERN_H_
