// The C ABI in wrong hands: handles, structs and texts that are not what they should be.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/capi/capi_parts.h"

namespace throttl::testing {
namespace {

template <typename Handle>
Handle* MadeUp(std::uint64_t bits) {
  return reinterpret_cast<Handle*>(static_cast<std::uintptr_t>(bits));
}

// What every call must answer to a handle that is of no open engine.
void CheckRefused(throttl_engine* handle) {
  throttl_request request = THROTTL_REQUEST_INIT;
  throttl_decision decision = THROTTL_DECISION_INIT;
  CHECK(throttl_validate(handle, &request, &decision) == 0);
  CHECK(decision.code == THROTTL_CODE_INVALID_REQUEST);
  CHECK(throttl_peek(handle, &request, nullptr) == 0);
  CHECK(throttl_validate_many(handle, &request, &decision, 1) == 0);
  CHECK(throttl_adjust(handle, &decision, 1) == 0);
  char* answer = nullptr;
  throttl_error* error = nullptr;
  CHECK(throttl_stats(handle, {nullptr, 0}, &answer, &error) == THROTTL_INVALID_ARGUMENT);
  CHECK(Take(error).starts_with("engine is "));
  CHECK(throttl_flush(handle, nullptr) == THROTTL_INVALID_ARGUMENT);
  CHECK(throttl_backup(handle, {nullptr, 0}, nullptr) == THROTTL_INVALID_ARGUMENT);
  CHECK(throttl_clock_advance(handle, 1, nullptr) == THROTTL_INVALID_ARGUMENT);
  CHECK(throttl_close(handle, nullptr) == THROTTL_INVALID_ARGUMENT);
}

TEST_CASE("a handle that is NULL, closed, of another kind or made up is refused, never followed") {
  throttl_engine* closed = nullptr;
  throttl_error* error = nullptr;
  REQUIRE(throttl_open(TextOf("memory:"), {nullptr, 0}, &closed, nullptr) == THROTTL_OK);
  REQUIRE(throttl_close(closed, nullptr) == THROTTL_OK);
  const CEngine open("memory:");
  CHECK(open.handle() != closed);
  REQUIRE(throttl_flush(closed, &error) == THROTTL_INVALID_ARGUMENT);
  CheckRefused(nullptr);
  CheckRefused(closed);
  CheckRefused(reinterpret_cast<throttl_engine*>(error));
  for (std::uint64_t bits = 1; bits != 0; bits <<= 1) {
    CheckRefused(MadeUp<throttl_engine>(bits));
    CheckRefused(MadeUp<throttl_engine>(reinterpret_cast<std::uintptr_t>(open.handle()) ^ bits));
  }
  throttl_error_free(error);
}

TEST_CASE("an error that is freed, of another kind or made up is a defined answer") {
  CHECK(throttl_error_status(nullptr) == THROTTL_OK);
  CHECK(std::string(throttl_error_message(nullptr)).empty());
  throttl_error_free(nullptr);
  throttl_free(nullptr);
  throttl_error* error = nullptr;
  CHECK(throttl_close(nullptr, &error) == THROTTL_INVALID_ARGUMENT);
  CHECK(std::string(throttl_error_message(error)) == "engine is NULL");
  throttl_error_free(error);
  throttl_error_free(error);
  CHECK(throttl_error_status(error) == THROTTL_INVALID_ARGUMENT);
  CHECK(std::string(throttl_error_message(error)).empty());
  const CEngine engine("memory:");
  throttl_error_free(reinterpret_cast<throttl_error*>(engine.handle()));
  CHECK(throttl_flush(engine.handle(), nullptr) == THROTTL_OK);
}

TEST_CASE("a struct of an older caller is filled as far as it goes") {
  const CEngine engine("memory:");
  const std::string secret = engine.NewSecret({{"owner_id", "acme"}});
  throttl_request request = THROTTL_REQUEST_INIT;
  request.secret = TextOf(secret);
  // Up to the secret: the rest is as THROTTL_REQUEST_INIT has it.
  request.struct_size = offsetof(throttl_request, method);
  request.method = {nullptr, 77};
  for (std::uint32_t size = 4; size <= sizeof(throttl_decision); ++size) {
    std::vector<char> bytes(sizeof(throttl_decision) + 8, '\x5A');
    auto* const decision = reinterpret_cast<throttl_decision*>(bytes.data());
    decision->struct_size = size;
    CHECK(throttl_peek(engine.handle(), &request, decision) == 1);
    CHECK(decision->struct_size == size);
    for (std::size_t i = size; i < bytes.size(); ++i) REQUIRE(bytes[i] == '\x5A');
    if (size >= 8) CHECK(decision->code == THROTTL_CODE_VALID);
  }
  for (const std::uint32_t size : {0U, 3U, 4097U, ~0U}) {
    throttl_decision decision = THROTTL_DECISION_INIT;
    decision.struct_size = size;
    request.struct_size = sizeof(request);
    request.method = {nullptr, 0};
    CHECK(throttl_peek(engine.handle(), &request, &decision) == 1);
    CHECK(decision.code == 0);
    request.struct_size = size;
    decision.struct_size = sizeof(decision);
    CHECK(throttl_peek(engine.handle(), &request, &decision) == 0);
    CHECK(decision.code == THROTTL_CODE_INVALID_REQUEST);
  }
}

struct LargerRequest {
  throttl_request known;
  std::uint64_t unknown;
};
struct LargerDecision {
  throttl_decision known;
  std::uint64_t unknown;
};

TEST_CASE("a struct of a newer caller must hold zeros in what this library does not know") {
  const CEngine engine("memory:");
  const std::string secret = engine.NewSecret({{"owner_id", "acme"}});
  LargerRequest request = {THROTTL_REQUEST_INIT, 0};
  request.known.struct_size = sizeof(request);
  request.known.secret = TextOf(secret);
  LargerDecision decision = {THROTTL_DECISION_INIT, 7};
  decision.known.struct_size = sizeof(decision);
  CHECK(throttl_validate(engine.handle(), &request.known, &decision.known) == 1);
  CHECK(decision.known.struct_size == sizeof(decision));
  CHECK(decision.unknown == 0);
  CHECK(throttl_adjust(engine.handle(), &decision.known, 5) == 5);
  CHECK(decision.known.spent == 5);
  decision.unknown = 1;
  CHECK(throttl_adjust(engine.handle(), &decision.known, 6) == 0);
  request.unknown = std::uint64_t{1} << 63;
  CHECK(throttl_validate(engine.handle(), &request.known, &decision.known) == 0);
  CHECK(decision.known.code == THROTTL_CODE_INVALID_REQUEST);
}

TEST_CASE("texts without data or beyond 1 MiB are an invalid request") {
  const CEngine engine("memory:");
  const std::string secret = engine.NewSecret({{"owner_id", "acme"}});
  throttl_request good = THROTTL_REQUEST_INIT;
  good.secret = TextOf(secret);
  for (throttl_text throttl_request::*text :
       {&throttl_request::secret, &throttl_request::method, &throttl_request::endpoint,
        &throttl_request::address, &throttl_request::scope}) {
    for (const throttl_text& bad :
         {throttl_text{nullptr, 1}, throttl_text{nullptr, SIZE_MAX}, throttl_text{"x", SIZE_MAX}}) {
      throttl_request request = good;
      request.*text = bad;
      throttl_decision decision = THROTTL_DECISION_INIT;
      CHECK(throttl_validate(engine.handle(), &request, &decision) == 0);
      CHECK(decision.code == THROTTL_CODE_INVALID_REQUEST);
    }
  }
  CHECK(throttl_validate(engine.handle(), nullptr, nullptr) == 0);
  good.reserved = 1;
  CHECK(throttl_validate(engine.handle(), &good, nullptr) == 0);
  CHECK(engine.Validate(std::string("a\0b", 3)).code == THROTTL_CODE_MALFORMED);
  CHECK(engine.Validate("").code == THROTTL_CODE_MISSING);
}

TEST_CASE("many requests are decided in order, as one by one") {
  const CEngine engine("memory:", {{"seed_plans", {{{"id", "free"}, {"quota", {{"limit", 5}}}}}}});
  const std::string secret = engine.NewSecret({{"owner_id", "acme"}});
  std::vector<throttl_request> requests(8, throttl_request(THROTTL_REQUEST_INIT));
  for (throttl_request& request : requests) request.secret = TextOf(secret);
  requests[2].secret = {nullptr, 0};
  std::vector<throttl_decision> decisions(8, throttl_decision(THROTTL_DECISION_INIT));
  CHECK(throttl_validate_many(engine.handle(), requests.data(), decisions.data(), 8) == 5);
  for (int i = 0; i < 8; ++i) {
    const int wanted =
        i == 2 ? THROTTL_CODE_MISSING : (i < 6 ? THROTTL_CODE_VALID : THROTTL_CODE_QUOTA_EXCEEDED);
    CHECK(decisions[static_cast<std::size_t>(i)].code == wanted);
  }
  CHECK(throttl_validate_many(engine.handle(), requests.data(), nullptr, 0) == 0);
  CHECK(throttl_validate_many(engine.handle(), nullptr, decisions.data(), 8) == 0);
  CHECK(decisions[0].code == THROTTL_CODE_INVALID_REQUEST);
  requests[7].struct_size = 16;
  CHECK(throttl_validate_many(engine.handle(), requests.data(), decisions.data(), 8) == 0);
}

TEST_CASE("headers and bodies are printed as snprintf does, of anything that may be a decision") {
  const CEngine engine("memory:", {{"clock", "2026-09-21T14:13:20Z"}});
  throttl_decision decision = engine.Validate("nonsense");
  std::vector<char> buffer(4096, 'x');
  const std::size_t size = throttl_http_headers(&decision, {nullptr, 0}, buffer.data(), 4096);
  const std::string headers(buffer.data());
  CHECK(headers.size() == size);
  CHECK(headers.find("WWW-Authenticate: Bearer realm=\"api\", error=\"invalid_token\"\r\n") !=
        std::string::npos);
  CHECK(throttl_http_headers(&decision, {nullptr, 0}, nullptr, 0) == size);
  CHECK(throttl_http_headers(&decision, {nullptr, 0}, buffer.data(), 5) == size);
  CHECK(std::string(buffer.data()) == headers.substr(0, 4));
  const std::string options = R"({"realm":"other","fields":"draft-7"})";
  CHECK(throttl_http_headers(&decision, TextOf(options), buffer.data(), 4096) == size + 2);
  CHECK(throttl_http_headers(&decision, TextOf("{\"fields\":7}"), buffer.data(), 4096) == 0);
  CHECK(buffer[0] == '\0');
  const std::size_t body = throttl_problem_json(&decision, buffer.data(), 4096);
  CHECK(Json::parse(std::string(buffer.data(), body)).at("status") == 401);
  CHECK(throttl_problem_json(nullptr, buffer.data(), 4096) == 0);
  // Any bytes at all.
  for (int seed = 0; seed < 3000; ++seed) {
    std::memset(&decision, seed % 256, sizeof(decision));
    decision.struct_size = sizeof(decision);
    if (seed >= 256) decision.code = seed % 13;
    if (seed >= 512) decision.quota_period = 0;
    throttl_http_headers(&decision, {nullptr, 0}, buffer.data(), 4096);
    throttl_problem_json(&decision, buffer.data(), 4096);
    throttl_adjust(engine.handle(), &decision, seed);
  }
  CHECK(std::string(throttl_code_name(4)) == "not_found");
  CHECK(std::string(throttl_code_public_name(4)) == "invalid_key");
  CHECK(std::string(throttl_code_name(-1)).empty());
  CHECK(std::string(throttl_code_name(12)).empty());
  const throttl_text found = throttl_secret_from_headers(TextOf("bearer abc"), {nullptr, 0});
  CHECK(std::string_view(found.data, found.size) == "abc");
}

TEST_CASE("calls inside an engine that is closed by another thread end first") {
  for (int round = 0; round < 40; ++round) {
    throttl_engine* engine = nullptr;
    REQUIRE(throttl_open(TextOf("memory:"), {nullptr, 0}, &engine, nullptr) == THROTTL_OK);
    std::atomic<bool> stop = false;
    std::atomic<int> running = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        throttl_request request = THROTTL_REQUEST_INIT;
        request.secret = TextOf("thr_live_nonsense");
        ++running;
        while (!stop) {
          throttl_validate(engine, &request, nullptr);
          throttl_stats(engine, {nullptr, 0}, nullptr, nullptr);
        }
      });
    }
    while (running < 3) std::this_thread::yield();
    CHECK(throttl_close(engine, nullptr) == THROTTL_OK);
    CHECK(throttl_close(engine, nullptr) == THROTTL_INVALID_ARGUMENT);
    stop = true;
    for (std::thread& thread : threads) thread.join();
  }
}

TEST_CASE("engines are opened and closed a thousand times, and never more than 1,024 at once") {
  std::vector<throttl_engine*> engines(1024);
  const std::string small = R"({"settle_thread":false,"active_subjects_max":1,"rate_slots_max":1,)"
                            R"("cached_keys_max":1})";
  for (throttl_engine*& engine : engines) {
    REQUIRE(throttl_open(TextOf("memory:"), TextOf(small), &engine, nullptr) == THROTTL_OK);
  }
  throttl_engine* none = nullptr;
  CHECK(throttl_open(TextOf("memory:"), TextOf(small), &none, nullptr) ==
        THROTTL_RESOURCE_EXHAUSTED);
  CHECK(none == nullptr);
  for (throttl_engine* const engine : engines) CHECK(throttl_close(engine, nullptr) == THROTTL_OK);
}

TEST_CASE("a forked child closes what its parent has open while other threads are inside") {
  throttl_engine* engine = nullptr;
  // A thread that only validates allocates nothing: no allocator keeps a lock over the fork.
  REQUIRE(throttl_open(TextOf("memory:"), TextOf(R"({"settle_thread":false})"), &engine, nullptr) ==
          THROTTL_OK);
  std::atomic<bool> stop = false;
  std::thread busy([&] {
    throttl_request request = THROTTL_REQUEST_INIT;
    while (!stop) throttl_validate(engine, &request, nullptr);
  });
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      throttl_close(engine, nullptr);  // a memory store is its parent's
      _exit(throttl_close(engine, nullptr) == THROTTL_INVALID_ARGUMENT ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
  stop = true;
  busy.join();
  CHECK(throttl_close(engine, nullptr) == THROTTL_OK);
}

}  // namespace
}  // namespace throttl::testing
