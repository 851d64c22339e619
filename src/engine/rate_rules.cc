#include "src/engine/rate_rules.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/str_cat.h"

#include "src/base/fast_hash.h"
#include "src/base/status_macros.h"
#include "src/policy/endpoint_pattern.h"
#include "src/policy/rate_terms.h"

namespace throttl::internal {
namespace {

// One tick of the coarse clock, 4 ms, is then less than half a percent of the burst.
constexpr std::int64_t kCoarseBurstNs = 1'000'000'000;

bool IsGeneral(const RateLimit& limit) { return limit.endpoint.empty(); }

}  // namespace

absl::StatusOr<RateRule> RateRule::Create(const RateLimit& limit) {
  RateRule rule{.name = std::string_view(limit.name),
                .limit = limit.limit,
                .window_ns = absl::ToInt64Nanoseconds(limit.window),
                .window = limit.window,
                .burst = limit.burst.value_or(limit.limit),
                .slides = limit.algorithm == RateAlgorithm::kSlidingWindow,
                .counts_requests = limit.counts == RateCost::kRequests,
                .shadow = limit.shadow};
  const RateTerms terms{.limit = rule.limit, .window_ns = rule.window_ns, .burst = rule.burst};
  if (rule.slides) {
    THROTTL_RETURN_IF_ERROR(CheckSlidingWindow(terms));
    rule.sliding = MakeWindowRule(terms);
    rule.wants_fine_clock = rule.window_ns < kCoarseBurstNs;
  } else {
    THROTTL_RETURN_IF_ERROR(CheckGcra(terms));
    rule.gcra = MakeGcraRule(terms);
    rule.per_interval = Reciprocal(rule.gcra.interval_ns);
    rule.wants_fine_clock = rule.gcra.tolerance_ns < kCoarseBurstNs;
  }
  // A TAT is read the same way whatever the limit is, so it stays when that is changed.
  rule.hash = FastHash(rule.slides ? static_cast<std::uint64_t>(rule.window_ns) : 0, limit.name);
  return rule;
}

RateAnswer RateRule::SpendSliding(const RateQuestion& question) const {
  const WindowAnswer answer = internal::Spend(
      sliding,
      WindowRequest{.word = question.word, .now_ns = question.now_ns, .cost = question.cost});
  return {.fits = answer.fits,
          .word = answer.word,
          .remaining = answer.remaining,
          .retry_after_ns = answer.retry_after_ns};
}

std::int64_t RateRule::SlidingRestsAtNs(std::uint64_t word, std::int64_t now_ns) const {
  return std::max(FreeAt(sliding, word, now_ns), now_ns);
}

std::uint64_t RateRule::ClampSliding(std::uint64_t word, std::int64_t fresh_now_ns) const {
  return internal::ClampToNow(sliding, word, fresh_now_ns);
}

std::uint64_t RateRule::GiveBack(const RateReturn& units) const {
  if (slides) {
    return internal::GiveBack(
        WindowReturn{.word = units.word, .spent = units.spent, .cost = units.cost});
  }
  return static_cast<std::uint64_t>(
      internal::GiveBack(gcra, GcraReturn{.tat_ns = AsTat(units.word),
                                          .spent_at_ns = units.spent_at_ns,
                                          .now_ns = units.now_ns,
                                          .cost = units.cost}));
}

std::int64_t RateWordFreeAt(std::uint64_t word, std::int64_t window_ns, std::int64_t now_ns) {
  if (window_ns == 0) return static_cast<std::int64_t>(word);
  return FreeAt(WindowRule{.limit = kWindowLimitMax, .window_ns = window_ns}, word, now_ns);
}

absl::StatusOr<RateSet> RateSet::Create(std::span<const RateLimit> of_plan,
                                        std::span<const RateLimit> of_key) {
  std::vector<const RateLimit*> limits;
  for (const RateLimit& limit : of_plan) {
    const bool replaced = std::any_of(of_key.begin(), of_key.end(),
                                      [&](const RateLimit& own) { return own.name == limit.name; });
    if (!replaced) limits.push_back(&limit);
  }
  for (const RateLimit& limit : of_key) limits.push_back(&limit);
  for (const RateLimit* const limit : limits) {
    THROTTL_RETURN_IF_ERROR(CheckEndpointPattern(limit->endpoint));
  }
  std::stable_sort(limits.begin(), limits.end(), [](const RateLimit* a, const RateLimit* b) {
    return IsNarrower(a->endpoint, b->endpoint);
  });
  RateSet set;
  std::vector<std::string_view> patterns;
  for (std::size_t i = 0; i < limits.size(); ++i) {
    THROTTL_ASSIGN_OR_RETURN(const RateRule rule, RateRule::Create(*limits[i]));
    const std::uint64_t bit = std::uint64_t{1} << i;
    if (IsGeneral(*limits[i])) set.general_ |= bit;
    if (rule.wants_fine_clock) set.fine_ |= bit;
    set.rules_.push_back(rule);
    patterns.push_back(limits[i]->endpoint);
  }
  set.patterns_ = static_cast<std::size_t>(
      std::count_if(patterns.begin(), patterns.end(), [](auto p) { return !p.empty(); }));
  if (set.patterns_ == 0) return set;
  THROTTL_ASSIGN_OR_RETURN(set.matcher_, EndpointMatcher::Create(patterns));
  return set;
}

}  // namespace throttl::internal
