// A scope names something that a key may do: a scope-token of RFC 6749, section 3.3.
//
// Thread safety: pure functions.
//
//   THROTTL_RETURN_IF_ERROR(CheckScope("search:read"));
#ifndef THROTTL_SRC_POLICY_SCOPE_H_
#define THROTTL_SRC_POLICY_SCOPE_H_

#include <cstddef>
#include <string_view>

#include "absl/status/status.h"

namespace throttl::internal {

inline constexpr std::size_t kScopeBytesMax = 127;

// OK for 1..kScopeBytesMax printable ASCII bytes without space, '"' and '\'.
// InvalidArgument: names the scope and the rule.
absl::Status CheckScope(std::string_view scope);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_POLICY_SCOPE_H_
