// A user's server: one handler, in front of a page.
#include <iostream>

#include <throttl/engine.h>
#include <throttl/http.h>

#include "http_server.h"

host::HttpResponse Handle(throttl::Engine& engine, const host::HttpRequest& request) {
  const std::string_view secret = throttl::SecretFromHeaders(
      {.authorization = request.header("Authorization"), .x_api_key = request.header("X-API-Key")});
  const throttl::Decision d = engine.Validate(
      secret,
      {.method = request.method, .endpoint = request.route, .address = request.peer_address});

  host::HttpResponse response;
  if (d.allowed()) {
    response = host::Search(request, d.owner_id);
  } else {
    response.status = d.http_status();
    response.body = throttl::ProblemJson(d);
    response.set("Content-Type", throttl::kProblemContentType);
  }
  for (const auto& [name, value] : throttl::HttpHeaders(d)) response.set(name, value);
  return response;
}

namespace {

// Two requests of a key that has one in all, and one without a key.
bool ServeThree(throttl::Engine& engine, const std::string& secret) {
  const host::HttpRequest request = {.headers = {{"Authorization", "Bearer " + secret}}};
  const host::HttpResponse page = Handle(engine, request);
  if (page.status != 200 || page.body != "/v1/search for acme") return false;
  if (page.headers.at("RateLimit") != "\"lifetime\";r=0") return false;

  const host::HttpResponse refusal = Handle(engine, request);
  if (refusal.status != 429 || refusal.headers.contains("Retry-After")) return false;
  if (refusal.body.find("\"code\":\"quota_exceeded\"") == std::string::npos) return false;

  const host::HttpResponse challenge = Handle(engine, {});
  return challenge.status == 401 &&
         challenge.headers.at("WWW-Authenticate") == "Bearer realm=\"api\"";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  auto engine = throttl::Engine::Open(argv[1]);
  if (!engine.ok()) return 1;
  auto plan = (*engine)->PutPlan(
      {.id = "tiny", .quota = throttl::Quota{.limit = 1, .period = throttl::Period::kLifetime}});
  if (!plan.ok()) return 1;
  auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "tiny"});
  if (!issued.ok()) return 1;
  const bool served = ServeThree(**engine, std::string(issued->secret.Reveal()));
  if (!served) std::cerr << "a response differs\n";
  return (*engine)->Close().ok() && served ? 0 : 1;
}
