// The rules of endpoint patterns as plainly as they can be written, to compare the matcher with.
//
// It shares no code with the matcher, and splits, decodes and compares whole texts.
//
// Thread safety: a pure function.
//
//   CHECK(NaiveMatches("GET /a/*", {.method = "GET", .endpoint = "/a/b?c"}));
#ifndef THROTTL_TESTS_POLICY_NAIVE_MATCHER_H_
#define THROTTL_TESTS_POLICY_NAIVE_MATCHER_H_

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "src/policy/endpoint_matcher.h"

namespace throttl::testing {

inline bool IsHex(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }

// std::nullopt: it has a control character.
inline std::optional<std::string> NaiveDecode(const std::string& text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    std::string kept(1, c);
    if (c == '%' && i + 2 < text.size() && IsHex(text[i + 1]) && IsHex(text[i + 2])) {
      c = static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
      kept = "%";
      kept += static_cast<char>(std::toupper(text[i + 1]));
      kept += static_cast<char>(std::toupper(text[i + 2]));
      i += 2;
      const std::string reserved = "%:/?#[]@!$&'()*+,;=";
      if (reserved.find(c) == std::string::npos) kept = std::string(1, c);
    }
    const int byte = static_cast<unsigned char>(c);
    if (byte < 32 || byte == 127) return std::nullopt;
    decoded += kept;
  }
  return decoded;
}

// std::nullopt: irregular.
inline std::optional<std::vector<std::string>> NaiveSegments(const std::string& path) {
  if (path.empty() || path[0] != '/' || path.size() > 1024) return std::nullopt;
  std::vector<std::string> segments;
  std::string text;
  for (const char c : path + "/") {
    if (c != '/') {
      text += c;
      continue;
    }
    const std::optional<std::string> segment = NaiveDecode(text);
    if (!segment.has_value() || *segment == "..") return std::nullopt;
    if (!segment->empty() && *segment != ".") segments.push_back(*segment);
    text.clear();
  }
  return segments;
}

inline bool NaiveMatches(const std::string& pattern, const internal::EndpointRequest& request) {
  if (pattern.empty()) return true;
  if (request.endpoint.empty()) return false;
  const std::size_t slash = pattern.find('/');
  if (slash > 0 && pattern.substr(0, slash - 1) != request.method) return false;
  const std::string pattern_path = pattern.substr(slash);
  if (pattern_path == "/**") return true;
  const std::string endpoint(request.endpoint);
  const auto segments = NaiveSegments(endpoint.substr(0, endpoint.find_first_of("?#")));
  if (!segments.has_value()) return false;
  std::vector<std::string> wanted = *NaiveSegments(pattern_path);
  const bool any_rest = !wanted.empty() && wanted.back() == "**";
  if (any_rest) wanted.pop_back();
  if (segments->size() < wanted.size()) return false;
  if (segments->size() > wanted.size() && !any_rest) return false;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i] != "*" && wanted[i] != (*segments)[i]) return false;
  }
  return true;
}

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_POLICY_NAIVE_MATCHER_H_
