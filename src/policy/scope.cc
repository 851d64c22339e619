#include "src/policy/scope.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

#include "src/base/text_check.h"

namespace throttl::internal {
namespace {

bool IsScopeByte(char c) {
  return c == 0x21 || (c >= 0x23 && c <= 0x5b) || (c >= 0x5d && c <= 0x7e);
}

absl::Status ScopeError(std::string_view scope, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("scope is ", Quoted(scope), ", ", rule));
}

}  // namespace

absl::Status CheckScope(std::string_view scope) {
  if (scope.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("scope is empty, 1 to ", kScopeBytesMax, " bytes are required"));
  }
  if (scope.size() > kScopeBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "scope is ", scope.size(), " bytes long, at most ", kScopeBytesMax, " bytes are allowed"));
  }
  if (!IsUtf8(scope)) return ScopeError(scope, "UTF-8 is required");
  if (HasControlCharacter(scope)) return ScopeError(scope, "control characters are not allowed");
  if (!std::all_of(scope.begin(), scope.end(), IsScopeByte)) {
    return ScopeError(scope, "only printable ASCII without space, '\"' and '\\' is allowed");
  }
  return absl::OkStatus();
}

}  // namespace throttl::internal
