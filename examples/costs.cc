// Requests that cost different amounts: units are the tokens of a model, whose number is known only
// afterwards. Two rate limits, one of tokens and one of requests, and a quota with some grace.
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <string_view>

#include <throttl/engine.h>

namespace {

throttl::Plan Model() {
  return {
      .id = "model",
      // 1,000 tokens a month; 10 % more are allowed, and such decisions say over_quota.
      .quota = throttl::Quota{.limit = 1'000, .soft_percent = 10},
      .rate_limits = {{.name = "tokens", .limit = 600, .counts = throttl::RateCost::kUnits},
                      {.name = "requests", .limit = 4, .counts = throttl::RateCost::kRequests}}};
}

void Show(const throttl::Decision& d) {
  std::cout << throttl::CodeName(d.code);
  if (!d.allowed()) std::cout << " by \"" << d.violated_policy() << '"';
  if (d.retry_after.has_value()) std::cout << ", again in " << *d.retry_after;
  std::cout << "; " << d.quota.used << " of " << d.quota.limit.value_or(0)
            << " tokens of the month used" << (d.over_quota ? ", over the quota" : "") << "; "
            << d.rate.remaining << " of \"" << d.rate.name.view() << "\" left\n";
}

class Client {
 public:
  Client(throttl::Engine& engine, std::string_view secret) : engine_(engine), secret_(secret) {}

  throttl::Decision Ask(std::int64_t cost) const {
    throttl::Decision d = engine_.Validate(secret_, {.cost = cost, .endpoint = "/v1/chat"});
    std::cout << "cost " << cost << ": ";
    Show(d);
    return d;
  }

  // Spends the most that the answer can take, and then makes it what it took.
  void Chat(std::int64_t tokens_max, std::int64_t tokens) const {
    throttl::Decision d = Ask(tokens_max);
    if (!d.allowed()) return;
    const std::int64_t spent = engine_.Adjust(d, tokens);
    std::cout << "  it took " << tokens << ": " << spent << " are spent of the quota\n";
  }

 private:
  throttl::Engine& engine_;
  std::string_view secret_;
};

void Spend(const Client& client, throttl::ManualClock& clock) {
  std::cout << "--- the quota gets back what was not needed, the rate limit \"tokens\" does not\n";
  client.Chat(500, 120);
  client.Chat(100, 130);
  client.Chat(500, 120);
  std::cout << "--- a cost above the burst never fits: there is nothing to wait for\n";
  client.Ask(601);
  clock.Advance(absl::Minutes(1));
  std::cout << "--- small requests: four a minute, whatever they cost\n";
  for (int i = 0; i < 5; ++i) client.Ask(2);
  std::cout << "--- a cost of 0 checks everything, and spends nothing\n";
  client.Ask(0);
  clock.Advance(absl::Minutes(1));
  std::cout << "--- up to 1,100 tokens are allowed, and none beyond them\n";
  client.Ask(600);
  clock.Advance(absl::Minutes(1));
  client.Ask(200);
  client.Ask(100);
  client.Ask(42);
}

absl::Status Run() {
  // A clock that this program moves by hand, so that it always prints the same.
  const auto clock = std::make_shared<throttl::ManualClock>(absl::FromUnixSeconds(1786536000));
  auto engine = throttl::Engine::Open("memory:", {.seed_plans = {Model()}, .clock = clock});
  if (!engine.ok()) return engine.status();
  auto issued = (*engine)->CreateKey({.owner_id = "acme", .plan_id = "model"});
  if (!issued.ok()) return issued.status();
  Spend(Client(**engine, issued->secret.Reveal()), *clock);
  return (*engine)->Close();
}

}  // namespace

int main() {
  const absl::Status status = Run();
  if (!status.ok()) std::cerr << status << '\n';
  return status.ok() ? 0 : 1;
}
