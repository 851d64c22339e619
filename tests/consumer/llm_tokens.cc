// A user whose units are LLM tokens: spends the most that the answer can cost, then makes it what
// it did cost.
#include <cstdint>
#include <iostream>
#include <string>
#include <string_view>

#include <throttl/engine.h>
#include <throttl/http.h>

namespace {

struct Completion {
  std::string text = {};
  std::int64_t tokens = 0;
  bool ok = false;
};

// A model that answers every prompt but an empty one with 25 tokens.
Completion Complete(std::string_view prompt, std::int64_t tokens_max) {
  if (prompt.empty() || tokens_max < 25) return {};
  return {.text = "42", .tokens = 25, .ok = true};
}

std::int64_t CountTokens(std::string_view prompt) {
  return static_cast<std::int64_t>(prompt.size());
}

std::string Answer(throttl::Engine& engine, std::string_view secret, std::string_view prompt) {
  const std::int64_t prompt_tokens = CountTokens(prompt);
  const std::int64_t tokens_max = 4000;
  throttl::Decision d =
      engine.Validate(secret, {.cost = prompt_tokens + tokens_max, .endpoint = "/v1/chat"});
  if (!d.allowed()) return throttl::ProblemJson(d);

  const Completion done = Complete(prompt, tokens_max);
  engine.Adjust(d, done.ok ? prompt_tokens + done.tokens
                           : 0);  // a crash before this line leaves the estimate spent
  return done.text;
}

// Of 5,000 tokens an answer takes 35, and is refused while fewer than the most are left.
bool AskTwice(throttl::Engine& engine, const std::string& secret) {
  if (Answer(engine, secret, "0123456789") != "42") return false;
  if (engine.Validate(secret, {.cost = 0}).quota.used != 35) return false;
  if (!engine.Validate(secret, {.cost = 1000}).allowed()) return false;
  return Answer(engine, secret, "0123456789").find("quota_exceeded") != std::string::npos;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  auto engine = throttl::Engine::Open(argv[1]);
  if (!engine.ok()) return 1;
  auto plan = (*engine)->PutPlan(
      {.id = "tokens",
       .quota = throttl::Quota{.limit = 5'000, .period = throttl::Period::kLifetime}});
  if (!plan.ok()) return 1;
  auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "tokens"});
  if (!issued.ok()) return 1;
  const bool right = AskTwice(**engine, std::string(issued->secret.Reveal()));
  if (!right) std::cerr << "an answer differs\n";
  return (*engine)->Close().ok() && right ? 0 : 1;
}
