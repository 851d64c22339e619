// What a client gets over HTTP: headers and bodies of requests that are allowed, over the quota,
// too fast, and without a good key.
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

#include <throttl/client_address.h>
#include <throttl/engine.h>
#include <throttl/http.h>

namespace {

// A request as a server has it, after one proxy of its own.
struct HttpRequest {
  std::string authorization = {};
  std::string x_api_key = {};
  std::string x_forwarded_for = "198.51.100.7";
};

class Server {
 public:
  Server(throttl::Engine& engine, throttl::TrustedProxies proxies)
      : engine_(engine), proxies_(std::move(proxies)) {}

  void Handle(const HttpRequest& request, const throttl::HttpOptions& options = {}) const {
    const std::string_view secret = throttl::SecretFromHeaders(
        {.authorization = request.authorization, .x_api_key = request.x_api_key});
    const throttl::Decision d = engine_.Validate(
        secret, {.method = "GET",
                 .endpoint = "/v1/search",
                 .address = proxies_.ClientAddress("10.0.0.1:443", request.x_forwarded_for)});
    std::cout << "HTTP/1.1 " << d.http_status() << '\n';
    for (const auto& [name, value] : throttl::HttpHeaders(d, options)) {
      std::cout << name << ": " << value << '\n';
    }
    if (!d.allowed()) {
      std::cout << "Content-Type: " << throttl::kProblemContentType << "\n\n"
                << throttl::ProblemJson(d) << '\n';
    }
    std::cout << '\n';
  }

 private:
  throttl::Engine& engine_;
  throttl::TrustedProxies proxies_;
};

absl::Status Run() {
  // Noon of 12 August, on a clock that stands, so that this program always prints the same.
  auto clock = std::make_shared<throttl::ManualClock>(absl::FromUnixSeconds(1786536000));
  auto engine = throttl::Engine::Open(
      "memory:",
      {.seed_plans = {{.id = "tiny", .quota = throttl::Quota{.limit = 3}}}, .clock = clock});
  if (!engine.ok()) return engine.status();
  auto issued = (*engine)->CreateKey(
      {.owner_id = "acme", .plan_id = "tiny", .addresses = {"198.51.100.0/24"}});
  if (!issued.ok()) return issued.status();
  auto slow = (*engine)->CreateKey(
      {.owner_id = "acme", .plan_id = "tiny", .rate_limits = {{.name = "search", .limit = 1}}});
  if (!slow.ok()) return slow.status();
  const std::string secret(issued->secret.Reveal());
  auto proxies = throttl::TrustedProxies::Create({"10.0.0.0/8"});
  if (!proxies.ok()) return proxies.status();
  const Server server(**engine, *proxies);

  std::cout << "--- allowed: two of three requests of the month are left\n";
  server.Handle({.authorization = "Bearer " + secret});
  std::cout << "--- allowed, for clients that read draft 7 or X-RateLimit, and draft 6\n";
  server.Handle({.x_api_key = secret},
                {.fields = throttl::RateLimitFields::kDraft7, .legacy_fields = true});
  server.Handle({.x_api_key = secret}, {.fields = throttl::RateLimitFields::kDraft6});
  std::cout << "--- over the quota\n";
  server.Handle({.authorization = "Bearer " + secret});
  std::cout << "--- without a key\n";
  server.Handle({});
  std::cout << "--- a key that nobody was given\n";
  server.Handle({.x_api_key = "abc"}, {.realm = "acme"});
  std::cout
      << "--- from another address than the key is for; the client wrote the first one itself\n";
  server.Handle({.x_api_key = secret, .x_forwarded_for = "198.51.100.7, 203.0.113.9"});
  std::cout << "--- another key, which may make one request a minute: its first, and too fast\n";
  server.Handle({.x_api_key = std::string(slow->secret.Reveal())});
  server.Handle({.x_api_key = std::string(slow->secret.Reveal())});
  clock->Advance(absl::Hours(24 * 20));
  std::cout << "--- in September\n";
  server.Handle({.authorization = "Bearer " + secret});
  return (*engine)->Close();
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}
