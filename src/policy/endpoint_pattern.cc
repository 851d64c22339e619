#include "src/policy/endpoint_pattern.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"

#include "src/base/text_check.h"

namespace throttl::internal {
namespace {

// Each Find returns the rule that is broken, or an empty text.

std::string FindTextFault(std::string_view pattern) {
  if (pattern.size() > kEndpointPatternBytesMax) {
    return absl::StrCat(pattern.size(), " bytes long, at most ", kEndpointPatternBytesMax,
                        " bytes are allowed");
  }
  if (!IsUtf8(pattern)) return "UTF-8 is required";
  if (HasControlCharacter(pattern)) return "control characters are not allowed";
  if (pattern.find_first_of("?#") != std::string_view::npos) {
    return "'?' and '#' are not allowed: only the path of a request is matched";
  }
  return {};
}

std::string FindMethodFault(std::string_view method) {
  const bool upper =
      std::all_of(method.begin(), method.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (upper && !method.empty() && method.size() <= kMethodBytesMax) return {};
  return absl::StrCat("a method must be 1 to ", kMethodBytesMax, " of A-Z");
}

std::string FindSegmentFault(std::string_view segment) {
  if (segment.empty()) return "a segment must not be empty";
  if (segment == "." || segment == "..") return "\".\" and \"..\" segments are not allowed";
  if (segment == "**") return "\"/**\" must come last";
  if (segment != "*" && segment.find('*') != std::string_view::npos) {
    return "'*' must be a whole segment";
  }
  return {};
}

std::string FindPathFault(std::string_view path) {
  if (path.empty() || path.front() != '/') return "a path must start with '/'";
  if (path == "/") return {};
  std::string_view rest = path.substr(1);
  while (true) {
    const std::size_t slash = rest.find('/');
    const bool last = slash == std::string_view::npos;
    const std::string_view segment = rest.substr(0, slash);
    if (last && segment == "**") return {};
    std::string fault = FindSegmentFault(segment);
    if (!fault.empty() || last) return fault;
    rest.remove_prefix(slash + 1);
  }
}

std::string FindFault(std::string_view pattern) {
  if (pattern.empty()) return {};
  std::string fault = FindTextFault(pattern);
  if (!fault.empty() || pattern.front() == '/') {
    return fault.empty() ? FindPathFault(pattern) : fault;
  }
  const std::size_t space = pattern.find(' ');
  if (space == std::string_view::npos) return "a path must start with '/'";
  fault = FindMethodFault(pattern.substr(0, space));
  return fault.empty() ? FindPathFault(pattern.substr(space + 1)) : fault;
}

}  // namespace

absl::Status CheckEndpointPattern(std::string_view pattern) {
  const std::string fault = FindFault(pattern);
  if (fault.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("endpoint is ", Quoted(pattern), ", ", fault));
}

}  // namespace throttl::internal
