// Rate limits of a plan: one on all requests and some on routes, one of a key's own instead, and
// one that is only tried out. What a client gets that was too fast.
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

#include <throttl/engine.h>
#include <throttl/http.h>

namespace {

// Every limit that matches a request applies to it. The bursts are the limits, as they are unless
// said otherwise: "search" allows 3 at once, and from then on one each 20 seconds.
// [README]
throttl::Plan Api() {
  return {
      .id = "api",
      .rate_limits = {
          {.name = "all", .limit = 8, .window = absl::Minutes(1)},
          {.name = "search", .limit = 3, .window = absl::Minutes(1), .endpoint = "/v1/search/**"},
          {.name = "writes",
           .limit = 6,
           .window = absl::Hours(1),
           .burst = 2,
           .endpoint = "POST /v1/**"},
          // Refuses nobody: the statistics say whom it would have refused.
          {.name = "planned", .limit = 5, .window = absl::Minutes(1), .shadow = true}}};
}
// [/README]

throttl::Decision Go(throttl::Engine& engine, std::string_view secret, std::string_view method,
                     std::string_view path) {
  throttl::Decision d = engine.Validate(secret, {.method = method, .endpoint = path});
  std::cout << method << ' ' << path << ": " << throttl::CodeName(d.code) << ", "
            << d.rate.remaining << " of \"" << d.rate.name.view() << "\" left";
  if (d.retry_after.has_value()) std::cout << ", again in " << *d.retry_after;
  std::cout << '\n';
  return d;
}

void ShowHttp(const throttl::Decision& d) {
  std::cout << "\nHTTP/1.1 " << d.http_status() << '\n';
  for (const auto& [name, value] : throttl::HttpHeaders(d)) {
    std::cout << name << ": " << value << '\n';
  }
  std::cout << "Content-Type: " << throttl::kProblemContentType << "\n\n"
            << throttl::ProblemJson(d) << "\n\n";
}

// What the decisions name is the limit that refused, else the one with the smallest part left.
void UseUp(throttl::Engine& engine, throttl::ManualClock& clock, std::string_view secret) {
  std::cout << "--- three searches, however their paths are written\n";
  Go(engine, secret, "GET", "/v1/search/cats");
  Go(engine, secret, "GET", "/v1/search//dogs/");
  Go(engine, secret, "GET", "/v1/search?q=birds");
  const throttl::Decision refused = Go(engine, secret, "GET", "/v1/search/fish");
  ShowHttp(refused);
  std::cout << "--- other routes go on; what was refused has spent nothing of \"all\"\n";
  Go(engine, secret, "POST", "/v1/items");
  Go(engine, secret, "POST", "/v1/items");
  Go(engine, secret, "POST", "/v1/items");
  Go(engine, secret, "GET", "/v1/items");
  std::cout << "--- of several limits that match, all must have room\n";
  clock.Advance(*refused.retry_after);
  Go(engine, secret, "POST", "/v1/search/fish");
  Go(engine, secret, "GET", "/v1/search/fish");
}

absl::Status Run() {
  // A clock that this program moves by hand, so that it always prints the same.
  const auto clock = std::make_shared<throttl::ManualClock>(absl::FromUnixSeconds(1786536000));
  auto engine = throttl::Engine::Open("memory:", {.seed_plans = {Api()}, .clock = clock});
  if (!engine.ok()) return engine.status();
  auto plain = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "api"});
  if (!plain.ok()) return plain.status();
  UseUp(**engine, *clock, plain->secret.Reveal());
  std::cout << "\"planned\" would have refused " << (*engine)->stats().shadow_refusals
            << " of them\n";

  std::cout << "--- a key whose own \"search\" stands in place of the plan's\n";
  auto special = (*engine)->CreateKey(
      {.owner_id = "acme",
       .plan_id = "api",
       .rate_limits = {{.name = "search", .limit = 1, .endpoint = "/v1/search/**"}}});
  if (!special.ok()) return special.status();
  Go(**engine, special->secret.Reveal(), "GET", "/v1/search/cats");
  Go(**engine, special->secret.Reveal(), "GET", "/v1/search/dogs");
  return (*engine)->Close();
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}
