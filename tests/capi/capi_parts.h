// What tests of the C ABI share: texts, calls that must succeed or fail, and an engine by its
// handle.
//
// Thread safety: pure but for the engines.
//
//   CEngine engine("memory:");
//   CHECK(engine.Call(throttl_plan_list, {}).size() == 3);
#ifndef THROTTL_TESTS_CAPI_CAPI_PARTS_H_
#define THROTTL_TESTS_CAPI_CAPI_PARTS_H_

#include <string>
#include <string_view>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "throttl.h"

namespace throttl::testing {

using Json = nlohmann::json;

inline throttl_text TextOf(std::string_view text) { return {text.data(), text.size()}; }

// The message of an error, which is freed.
inline std::string Take(throttl_error* error) {
  std::string message = throttl_error_message(error);
  throttl_error_free(error);
  return message;
}

class CEngine {
 public:
  explicit CEngine(const std::string& url, const Json& options = Json::object()) {
    throttl_error* error = nullptr;
    const std::string text = options.dump();
    const throttl_status status = throttl_open(TextOf(url), TextOf(text), &handle_, &error);
    REQUIRE_MESSAGE(status == THROTTL_OK, Take(error));
  }
  ~CEngine() { throttl_close(handle_, nullptr); }
  CEngine(const CEngine&) = delete;
  CEngine& operator=(const CEngine&) = delete;

  throttl_engine* handle() const { return handle_; }

  Json Call(throttl_call call, const Json& document) const {
    char* answer = nullptr;
    throttl_error* error = nullptr;
    const std::string text = document.is_null() ? "" : document.dump();
    const throttl_status status = call(handle_, TextOf(text), &answer, &error);
    REQUIRE_MESSAGE(status == THROTTL_OK, Take(error));
    REQUIRE(answer != nullptr);
    CHECK(error == nullptr);
    Json json = Json::parse(std::string_view(answer));
    throttl_free(answer);
    return json;
  }

  // "STATUS message" of a call that must fail.
  std::string Fails(throttl_call call, const std::string& text) const {
    char* answer = nullptr;
    throttl_error* error = nullptr;
    const throttl_status status = call(handle_, TextOf(text), &answer, &error);
    CHECK(status != THROTTL_OK);
    CHECK(answer == nullptr);
    CHECK(throttl_error_status(error) == status);
    // Also without anybody who wants to know why.
    CHECK(call(handle_, TextOf(text), nullptr, nullptr) == status);
    return std::to_string(status) + " " + Take(error);
  }
  std::string Fails(throttl_call call, const Json& document) const {
    return Fails(call, document.dump());
  }

  throttl_decision Validate(const std::string& secret, std::int64_t cost = 1) const {
    throttl_request request = THROTTL_REQUEST_INIT;
    request.secret = TextOf(secret);
    request.cost = cost;
    throttl_decision decision = THROTTL_DECISION_INIT;
    const std::int32_t allowed = throttl_validate(handle_, &request, &decision);
    CHECK((allowed == 1) == (decision.code == THROTTL_CODE_VALID));
    return decision;
  }

  std::string NewSecret(const Json& key) const {
    return Call(throttl_key_create, key).at("secret").get<std::string>();
  }

 private:
  throttl_engine* handle_ = nullptr;
};

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CAPI_CAPI_PARTS_H_
