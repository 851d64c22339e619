// Explain, on every store.
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>

#include "throttl/engine.h"

#include "tests/engine/engine_on_stores.h"

namespace throttl::testing {
namespace {

const Plan kPlan{.id = "routes",
                 .quota = Quota{.limit = 100, .soft_percent = 10},
                 .rate_limits = {{.name = "all", .limit = 20},
                                 {.name = "search", .limit = 4, .endpoint = "/search/**"},
                                 {.name = "trial", .limit = 2, .shadow = true},
                                 {.name = "post", .limit = 2, .endpoint = "POST /**"}}};

struct Explained {
  explicit Explained(EngineUnderTest& under_test, Key key = {}) : t(under_test) {
    REQUIRE(t.engine().PutPlan(kPlan).ok());
    key.owner_id = "acme";
    key.plan_id = kPlan.id;
    auto made = t.engine().CreateKey(key);
    REQUIRE_MESSAGE(made.ok(), made.status().ToString());
    issued = *std::move(made);
  }
  Decision Validate(const Request& request = {}) {
    return t.engine().Validate(issued.secret.Reveal(), request);
  }
  Explanation Why(const Request& request = {}) {
    auto why = t.engine().Explain(issued.key.id, request);
    REQUIRE_MESSAGE(why.ok(), why.status().ToString());
    return *std::move(why);
  }

  EngineUnderTest& t;
  IssuedKey issued;
};

std::string NamesOf(const Explanation& why) {
  std::string names;
  for (const ExplainedLimit& limit : why.limits) absl::StrAppend(&names, limit.name, " ");
  return names;
}

const ExplainedLimit& LimitOf(const Explanation& why, const std::string& name) {
  for (const ExplainedLimit& limit : why.limits) {
    if (limit.name == name) return limit;
  }
  FAIL("no limit ", name);
  return why.limits.front();
}

TEST_CASE("every limit that applies is explained, from the narrowest to the quota, as it stands") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Explained e(t);
        CHECK(NamesOf(e.Why()) == "all trial month ");
        const Request search{.method = "GET", .endpoint = "/search/books"};
        CHECK(NamesOf(e.Why(search)) == "search all trial month ");
        CHECK(NamesOf(e.Why({.method = "POST", .endpoint = "/search/books"})) ==
              "search post all trial month ");
        for (int i = 0; i < 3; ++i) REQUIRE(e.Validate(search).allowed());
        const Explanation why = e.Why(search);
        CHECK(why.code == DecisionCode::kValid);
        CHECK(why.at == t.Now());
        const ExplainedLimit& narrow = LimitOf(why, "search");
        CHECK(narrow.kind == LimitKind::kRateLimit);
        CHECK(narrow.endpoint == "/search/**");
        CHECK(narrow.limit == 4);
        CHECK(narrow.at_rest == 4);
        CHECK(narrow.remaining == 1);
        CHECK(narrow.window == absl::Minutes(1));
        CHECK(narrow.resets_at == t.Now() + absl::Seconds(45));
        CHECK_FALSE(narrow.refuses);
        CHECK_FALSE(narrow.retry_after.has_value());
        CHECK(LimitOf(why, "all").remaining == 17);
        // It would have refused the third.
        const ExplainedLimit& shadow = LimitOf(why, "trial");
        CHECK(shadow.shadow);
        CHECK(shadow.refuses);
        CHECK(shadow.retry_after == absl::Seconds(30));
        const ExplainedLimit& quota = LimitOf(why, "month");
        CHECK(quota.kind == LimitKind::kQuota);
        CHECK(quota.limit == 100);
        CHECK(quota.at_rest == 110);
        CHECK(quota.remaining == 107);
        CHECK(quota.window == absl::Hours(30 * 24));
        CHECK(quota.resets_at == e.Validate({.cost = 0}).quota.resets_at);
      },
      {.settle_thread = false});
}

TEST_CASE("the code is what Peek decides, and nothing is spent") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Explained e(t, {.scopes = {"read"}, .addresses = {"10.0.0.0/8"}});
        const Request good{.endpoint = "/search", .address = "10.1.1.1", .scope = "read"};
        Request other = good;
        other.address = "11.1.1.1";
        Request more = good;
        more.scope = "write";
        Request dear = good;
        dear.cost = 5;
        Request too_dear = good;
        too_dear.cost = 200;
        too_dear.endpoint = "";
        const auto agree = [&] {
          for (const Request& request : {good, other, more, dear, too_dear}) {
            const Decision peeked = t.engine().Peek(e.issued.secret.Reveal(), request);
            const Explanation why = e.Why(request);
            CHECK(why.code == peeked.code);
            if (peeked.code == DecisionCode::kRateLimited) {
              CHECK(LimitOf(why, std::string(peeked.rate.name.view())).retry_after ==
                    peeked.retry_after);
            }
            for (const ExplainedLimit& limit : why.limits) {
              if (limit.name == std::string(peeked.rate.name.view())) {
                CHECK(limit.remaining == peeked.rate.remaining);
              }
            }
          }
        };
        for (int i = 0; i < 5; ++i) {
          agree();
          e.Validate(good);
        }
        CHECK(e.Why(good).code == DecisionCode::kRateLimited);
        t.clock().Advance(absl::Minutes(1));
        REQUIRE(t.engine().PutPlan({.id = "routes", .quota = Quota{.limit = 4}}).ok());
        agree();
        CHECK(e.Why(good).code == DecisionCode::kQuotaExceeded);
        CHECK(LimitOf(e.Why(good), "month").retry_after ==
              *LimitOf(e.Why(good), "month").resets_at - t.Now());
        CHECK(t.engine().GetUsage(e.issued.key.id)->quota.used == 4);
        Key key = *t.engine().GetKey(e.issued.key.id);
        key.expires_at = t.Now() + absl::Seconds(1);
        REQUIRE(t.engine().UpdateKey(key).ok());
        t.clock().Advance(absl::Seconds(1));
        CHECK(e.Why(good).code == DecisionCode::kExpired);
        REQUIRE(t.engine().RevokeKey(e.issued.key.id).ok());
        CHECK(e.Why(good).code == DecisionCode::kInactive);
      },
      {.settle_thread = false});
}

TEST_CASE("a key's own limits are told from its plan's") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Explained e(t, {.quota = Quota{.limit = 9, .period = Period::kLifetime},
                        .rate_limits = {{.name = "all", .limit = 5, .burst = 50}}});
        const Explanation why = e.Why();
        CHECK(LimitOf(why, "all").of_key);
        CHECK(LimitOf(why, "all").limit == 5);
        CHECK(LimitOf(why, "all").at_rest == 50);
        CHECK_FALSE(LimitOf(why, "trial").of_key);
        const ExplainedLimit& quota = LimitOf(why, "lifetime");
        CHECK(quota.of_key);
        CHECK_FALSE(quota.window.has_value());
        CHECK_FALSE(quota.resets_at.has_value());
      },
      {.settle_thread = false});
}

TEST_CASE("Explain: NotFound for another owner's key, InvalidArgument for the cost") {
  ForEachStore(
      [](EngineUnderTest& t) {
        Explained e(t);
        const auto explain = [&](const Request& request, const Caller& caller) {
          return t.engine().Explain(e.issued.key.id, request, caller).status();
        };
        CHECK(explain({}, {.owner_id = "acme"}).ok());
        CHECK(absl::IsNotFound(explain({}, {.owner_id = "globex"})));
        CHECK(absl::IsNotFound(t.engine().Explain("key_none").status()));
        const absl::Status refused = explain({.cost = -1}, {});
        CHECK(refused.code() == absl::StatusCode::kInvalidArgument);
        CHECK(absl::StrContains(refused.message(), "cost is -1, 0 to 1000000000"));
      },
      {.settle_thread = false});
}

}  // namespace
}  // namespace throttl::testing
