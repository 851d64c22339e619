#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include "throttl/engine.h"
#include "throttl/http.h"

namespace throttl {
namespace {

std::string Bearer(std::string_view authorization) {
  return std::string(SecretFromHeaders({.authorization = authorization}));
}

std::string InQuery(std::string_view query) {
  return std::string(SecretFromHeaders({.query = query, .query_parameter = "api_key"}));
}

// An engine that holds imported keys, so that it looks up secrets of foreign forms as well.
DecisionCode CodeOf(std::string_view secret) {
  static const std::unique_ptr<Engine> engine = [] {
    auto opened = Engine::Open("memory:", {.settle_thread = false});
    REQUIRE(opened.ok());
    std::vector<ImportedKey> imported(3);
    const char* const ids[] = {"old_1", "old_2", "old_3"};
    const char* const secrets[] = {"tk_0123456789abcdef0123456789abcdef", "a+bcdefghijklmnop",
                                   "tk_01%3223456789abcdef"};
    for (std::size_t i = 0; i < imported.size(); ++i) {
      imported[i].key = {.owner_id = "acme", .plan_id = "free", .id = ids[i]};
      imported[i].digest = Sha256(secrets[i]);
    }
    REQUIRE((*opened)->ImportKeys(imported).ok());
    return *std::move(opened);
  }();
  return engine->Validate(secret).code;
}

TEST_CASE("the secret is a view into the headers") {
  const std::string authorization = "Bearer thr_live_x";
  const std::string x_api_key = "thr_live_y";
  CHECK(SecretFromHeaders({.authorization = authorization}).data() == authorization.data() + 7);
  CHECK(SecretFromHeaders({.x_api_key = x_api_key}).data() == x_api_key.data());
}

TEST_CASE("the scheme is Bearer in any case, with one space or more, and whitespace around") {
  for (const char* const value : {"Bearer abc", "bearer abc", "BEARER abc", "bEaReR   abc",
                                  " \tBearer abc \t", "Bearer \t abc"}) {
    CAPTURE(value);
    CHECK(Bearer(value) == "abc");
  }
  CHECK(Bearer("Bearer a b") == "a b");
  CHECK(SecretFromHeaders({.x_api_key = " \tabc\t "}) == "abc");
}

TEST_CASE("another scheme counts as absent, and so does a secret without a scheme") {
  for (const char* const value : {"", "Bearer", "Bearer ", "Bearer\tabc", "Bearerabc", "abc",
                                  "Basic YTpi", "Digest abc", "Bear abc", "Bearers abc", " "}) {
    CAPTURE(value);
    CHECK(Bearer(value).empty());
    CHECK(SecretFromHeaders({.authorization = value, .x_api_key = "key"}) == "key");
  }
  CHECK(SecretFromHeaders({.x_api_key = "Bearer abc"}) == "Bearer abc");
}

TEST_CASE("without a secret it is empty, which decides kMissing") {
  CHECK(SecretFromHeaders({}).empty());
  CHECK(SecretFromHeaders({.authorization = "Basic YTpi", .x_api_key = " "}).empty());
  CHECK(CodeOf(SecretFromHeaders({})) == DecisionCode::kMissing);
}

TEST_CASE("two different secrets give a text that decides kMalformed; the same twice is that one") {
  CHECK(SecretFromHeaders({.authorization = "Bearer abc", .x_api_key = "abc"}) == "abc");
  const std::string_view two =
      SecretFromHeaders({.authorization = "Bearer abcdefghijkl", .x_api_key = "mnopqrstuvwx"});
  CHECK(CodeOf(two) == DecisionCode::kMalformed);
  for (const char* const secret : {"abcdefghijkl", "mnopqrstuvwx"}) {
    CHECK(two.find(secret) == std::string_view::npos);
    CHECK(CodeOf(secret) == DecisionCode::kMalformed);
  }
  CHECK(CodeOf("tk_0123456789abcdef0123456789abcdef") == DecisionCode::kValid);
  CHECK(CodeOf(SecretFromHeaders({.authorization = "Bearer abcdefghijkl",
                                  .query = "k=tk_0123456789abcdef0123456789abcdef",
                                  .query_parameter = "k"})) == DecisionCode::kMalformed);
  CHECK(CodeOf(InQuery("api_key=abcdefgh&api_key=ijklmnop")) == DecisionCode::kMalformed);
}

TEST_CASE("the query is off unless query_parameter names a parameter") {
  CHECK(SecretFromHeaders({.query = "api_key=abc"}).empty());
  CHECK(SecretFromHeaders({.query = "=abc"}).empty());
  CHECK(InQuery("api_key=abc") == "abc");
  CHECK(InQuery("a=1&api_key=abc&b=2") == "abc");
  CHECK(InQuery("api_key=abc&api_key=abc") == "abc");
  CHECK(InQuery("api_key=a=b") == "a=b");
  for (const char* const query :
       {"", "api_key", "api_key=", "&&", "xapi_key=abc", "api_keys=abc", "API_KEY=abc",
        "?api_key=abc", "a=api_key=abc", "api%5Fkey=abc", "&api_key=&"}) {
    CAPTURE(query);
    CHECK(InQuery(query).empty());
  }
}

TEST_CASE("a value of the query with '%' or '+' gives a text that decides kMalformed") {
  for (const char* const query : {"api_key=tk_01%3223456789abcdef", "api_key=a+bcdefghijklmnop",
                                  "api_key=%", "api_key=abc&api_key=a%62c"}) {
    CAPTURE(query);
    CHECK(CodeOf(InQuery(query)) == DecisionCode::kMalformed);
  }
  // Some such secrets were imported: a header may have them.
  CHECK(CodeOf(SecretFromHeaders({.x_api_key = "a+bcdefghijklmnop"})) == DecisionCode::kValid);
  CHECK(InQuery("other=%20+&api_key=abc") == "abc");
}

}  // namespace
}  // namespace throttl
