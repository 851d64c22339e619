#include <cstddef>

#include "absl/strings/ascii.h"

#include "throttl/http.h"

namespace throttl {
namespace {

constexpr std::string_view kScheme = "bearer";
// No secret has a space, also none that was imported: these decide kMalformed.
constexpr std::string_view kTwoSecrets = "two different secrets";
constexpr std::string_view kEncodedSecret = "a secret that would have to be decoded";

// RFC 9110, section 5.6.3: spaces and tabs.
std::string_view WithoutWhitespaceAround(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

bool IsBearer(std::string_view scheme) {
  if (scheme.size() != kScheme.size()) return false;
  for (std::size_t i = 0; i < scheme.size(); ++i) {
    if (absl::ascii_tolower(static_cast<unsigned char>(scheme[i])) != kScheme[i]) return false;
  }
  return true;
}

// RFC 9110, section 11.4: credentials = auth-scheme [ 1*SP token68 ].
std::string_view FromAuthorization(std::string_view value) {
  const std::string_view credentials = WithoutWhitespaceAround(value);
  const std::size_t space = credentials.find(' ');
  if (space == std::string_view::npos || !IsBearer(credentials.substr(0, space))) return {};
  return WithoutWhitespaceAround(credentials.substr(space));
}

std::string_view OneOf(std::string_view a, std::string_view b) {
  if (a.empty()) return b;
  return b.empty() || a == b ? a : kTwoSecrets;
}

std::string_view FromQuery(std::string_view query, std::string_view parameter) {
  std::string_view secret;
  if (parameter.empty()) return secret;
  for (std::size_t begin = 0; begin < query.size();) {
    const std::string_view pair = query.substr(begin, query.find('&', begin) - begin);
    begin += pair.size() + 1;
    const std::size_t equals = pair.find('=');
    if (equals == std::string_view::npos || pair.substr(0, equals) != parameter) continue;
    const std::string_view value = pair.substr(equals + 1);
    if (value.find_first_of("%+") != std::string_view::npos) return kEncodedSecret;
    secret = OneOf(secret, value);
  }
  return secret;
}

}  // namespace

std::string_view SecretFromHeaders(const CredentialHeaders& headers) {
  const std::string_view in_headers =
      OneOf(FromAuthorization(headers.authorization), WithoutWhitespaceAround(headers.x_api_key));
  return OneOf(in_headers, FromQuery(headers.query, headers.query_parameter));
}

}  // namespace throttl
