// What a decision is in HTTP: status, headers and problem body, the same from every language and
// server.
//
// Thread safety: pure functions.
//
//   std::string_view secret = throttl::SecretFromHeaders({.authorization = a, .x_api_key = k});
//   for (const auto& [name, value] : throttl::HttpHeaders(d)) response.set(name, value);
#ifndef THROTTL_HTTP_H_
#define THROTTL_HTTP_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"

#include "throttl/decision.h"

namespace throttl {

// Which fields tell a client its limits. The numbers are those of the drafts of
// draft-ietf-httpapi-ratelimit-headers, which differ.
//
// Drafts 8 and 10 tell of every limit that is known, the rate limit first and the quota second, in
// both fields; a quota is called by its period, as Decision::violated_policy() says, so no rate
// limit should be called "month".
//   RateLimit-Policy: "search";q=20;w=60, "month";q=50000;w=2678400
//   RateLimit: "search";r=17;t=3, "month";r=41230;t=1036800
// `q` is the limit and `r` what is left of it. `w`, the seconds of the window, or of this very
// month, is left out where it is not a positive whole number, or where the decision does not say
// when the period began. `t` is left out where nothing ever comes back.
//
// The other drafts, and the X-RateLimit fields, tell of one limit: of the one that refused, else of
// the one with the smallest part left. Drafts 6 and 7 require a reset: a limit that never resets is
// not told by them. Their RateLimit-Policy needs a window, and is left out without `w`.
enum class RateLimitFields : std::uint8_t {
  kNone = 0,
  kDraft6 = 6,    // RateLimit-Policy: 20;w=60, and RateLimit-Limit, -Remaining, -Reset
  kDraft7 = 7,    // RateLimit-Policy: 20;w=60, and RateLimit: limit=20, remaining=17, reset=9
  kDraft8 = 8,    // as kDraft10, but `t` is when all is there again, as in the drafts before
  kDraft10 = 10,  // `t` is when more is there: for a rate limit, the next unit
};

struct HttpOptions {
  RateLimitFields fields = RateLimitFields::kDraft10;
  bool legacy_fields = false;      // X-RateLimit-Limit, -Remaining, -Reset (Unix seconds) as well
  std::string_view realm = "api";  // of WWW-Authenticate; borrowed for the call
  // Scopes that the request needed, separated by spaces: told with kScopeMissing. Borrowed.
  std::string_view scope = {};
};

struct HttpHeader {
  std::string_view name;  // a constant
  std::string value;      // printable ASCII
};

// What Retry-After says when a decision is kStoreUnavailable and does not know better.
inline constexpr absl::Duration kRetryWhenUnavailable = absl::Seconds(1);

// Headers for the response, allowed or refused. Each name stands there once:
//
// - The fields of `options`, with kValid, kRateLimited and kQuotaExceeded only: whoever was refused
//   for another reason is not told what a key has left. No item stands for a quota without a limit,
//   for the quota of an unmetered decision, and for a rate limit when none matched.
// - Retry-After with 429 and 503: whole seconds, rounded up, at least 1. None with 429 when waiting
//   does not help. The limit that refused is never said to be there later than that: its `t` is at
//   most Retry-After, and its reset, in draft 8 and before, is the moment that Retry-After names.
// - WWW-Authenticate, with `Bearer realm="..."` (RFC 9110, 11.6.1; RFC 6750, 3): with 401, without
//   an error for kMissing and with error="invalid_token" else; and with kScopeMissing, with
//   error="insufficient_scope" and the scope, if there is one. kForbidden has none: another
//   credential would not change the address.
// - Cache-Control: no-store with every refusal.
//
// No control character and nothing beyond ASCII can stand in a value: '?' stands for each byte of a
// realm, a scope or a limit's name that cannot. (Names that an engine took have only [a-z0-9_.-].)
// The same headers come of kMalformed and kNotFound. Numbers of a structured field (RFC 9651) have
// at most 15 digits: greater ones are 999999999999999.
std::vector<HttpHeader> HttpHeaders(const Decision& decision, const HttpOptions& options = {});

// The body for a refusal, as RFC 9457 has it: `type`, `title`, `status` = http_status(), `detail`
// for a person, `code` = PublicCodeName, and with 429 `violated-policies`, a list of the one that
// refused, by the name that HttpHeaders gives it. With 429 and 503 the type is one that
// draft-ietf-httpapi-ratelimit-headers-10 registers, else about:blank. Beside that it tells nothing
// of the key, and the same bytes come of kMalformed and kNotFound. Empty for a decision that
// allows.
std::string ProblemJson(const Decision& decision);
inline constexpr char kProblemContentType[] = "application/problem+json";

// What the request has; all are borrowed. An absent header is empty.
struct CredentialHeaders {
  std::string_view authorization = {};  // "Bearer SECRET"; the scheme in any case
  std::string_view x_api_key = {};      // "SECRET"
  // The query of the URL, without its '?'. Off unless query_parameter names a parameter, such as
  // "api_key": secrets in URLs end in logs and histories.
  std::string_view query = {};
  std::string_view query_parameter = {};
};
// The secret in the headers, as a view into them, without the spaces and tabs around it. Allocates
// nothing. Empty without one (decides kMissing). Two different ones give a text that decides
// kMalformed; the same one twice is that one.
//
// Another scheme than Bearer, such as Basic, is the host's own business: that header counts as
// absent, and so does a secret without a scheme. Nothing is decoded: names of parameters are
// compared byte by byte, and a value with '%' or '+', which no secret of ours has, gives a text
// that decides kMalformed.
std::string_view SecretFromHeaders(const CredentialHeaders& headers);

}  // namespace throttl

#endif  // THROTTL_HTTP_H_
