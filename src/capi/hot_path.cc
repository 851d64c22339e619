// Validate, Peek and Adjust across the C ABI, and what is made of a decision: no allocation but in
// the texts of HTTP.
#include <string.h>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "throttl/http.h"

#include "src/capi/capi_call.h"
#include "src/capi/documents.h"

namespace throttl::capi {
namespace {

constexpr std::size_t kRequestTextBytesMax = std::size_t{1} << 20;
// No struct of any version will be larger.
constexpr std::uint32_t kStructBytesMax = 4096;
constexpr std::uint32_t kStructBytesMin = sizeof(std::uint32_t);

bool AllZero(const char* bytes, std::size_t size) {
  return std::all_of(bytes, bytes + size, [](char byte) { return byte == 0; });
}

// The caller's struct as this library has it. std::nullopt: it is no such struct.
template <typename Struct>
std::optional<Struct> Adopt(const Struct* given, const Struct& defaults) {
  const std::uint32_t size = given->struct_size;
  if (size < kStructBytesMin || size > kStructBytesMax) return std::nullopt;
  const auto* const bytes = reinterpret_cast<const char*>(given);
  if (size > sizeof(Struct) && !AllZero(bytes + sizeof(Struct), size - sizeof(Struct))) {
    return std::nullopt;
  }
  Struct adopted = defaults;
  memcpy(&adopted, given, std::min<std::size_t>(size, sizeof(Struct)));
  adopted.struct_size = sizeof(Struct);
  return adopted;
}

bool IsText(const throttl_text& text) {
  return text.size == 0 || (text.data != nullptr && text.size <= kRequestTextBytesMax);
}

std::string_view ViewOf(const throttl_text& text) {
  return text.size == 0 ? std::string_view() : std::string_view(text.data, text.size);
}

bool IsRequest(const throttl_request& request) {
  return request.reserved == 0 && IsText(request.secret) && IsText(request.method) &&
         IsText(request.endpoint) && IsText(request.address) && IsText(request.scope);
}

std::int64_t MillisOf(const std::optional<absl::Time>& time) {
  return time.has_value() ? absl::ToUnixMillis(*time) : -1;
}

template <std::size_t kBytes, typename Fixed>
void CopyText(const Fixed& text, char (&out)[kBytes]) {
  const std::string_view view = text.view();
  memcpy(out, view.data(), view.size());
  memset(out + view.size(), 0, kBytes - view.size());
}

void FillRate(const RateState& rate, throttl_decision& out) {
  const bool matched = !rate.name.view().empty();
  out.rate_limit = matched ? rate.limit : -1;
  out.rate_remaining = matched ? rate.remaining : 0;
  out.rate_window_ms = matched ? absl::ToInt64Milliseconds(rate.window) : 0;
  out.rate_resets_at_ms =
      matched ? absl::ToUnixMillis(rate.resets_at + absl::Nanoseconds(999'999)) : 0;
  CopyText(rate.name, out.rate_name);
}

void FillQuota(const QuotaState& quota, bool known, throttl_decision& out) {
  out.quota_period = known ? static_cast<std::int32_t>(quota.period) : 0;
  out.quota_limit = quota.limit.value_or(-1);
  out.quota_used = quota.used;
  out.quota_remaining = quota.remaining().value_or(-1);
  out.quota_resets_at_ms = MillisOf(quota.resets_at);
  const bool runs = quota.starts_at != absl::InfinitePast();
  out.quota_starts_at_ms = runs ? absl::ToUnixMillis(quota.starts_at) : -1;
}

// Waits are rounded up: whoever waits that long is not refused for the same reason.
void Fill(const Decision& decision, throttl_decision& out) {
  out.struct_size = sizeof(throttl_decision);
  out.code = static_cast<std::int32_t>(decision.code);
  out.http_status = decision.http_status();
  out.flags = (decision.secret_retiring ? THROTTL_FLAG_SECRET_RETIRING : 0) |
              (decision.unmetered ? THROTTL_FLAG_UNMETERED : 0) |
              (decision.over_quota ? THROTTL_FLAG_OVER_QUOTA : 0);
  out.alert_percent = decision.alert_percent;
  out.spent = decision.spent;
  const bool known = !decision.key_id.view().empty();
  FillQuota(decision.quota, known, out);
  FillRate(decision.rate, out);
  out.decided_at_ms = absl::ToUnixMillis(decision.decided_at);
  out.retry_after_ms = -1;
  if (decision.retry_after.has_value()) {
    out.retry_after_ms =
        absl::ToInt64Milliseconds(*decision.retry_after + absl::Nanoseconds(999'999));
  }
  out.secret_expires_at_ms = MillisOf(decision.secret_expires_at);
  out.ticket[0] = decision.ticket[0];
  out.ticket[1] = decision.ticket[1];
  CopyText(decision.key_id, out.key_id);
  CopyText(decision.owner_id, out.owner_id);
  CopyText(decision.plan_id, out.plan_id);
}

// To where the caller wants it, as far as its struct goes, with zeros in what is beyond ours.
void Hand(const throttl_decision& decision, throttl_decision* out) {
  const std::uint32_t size = out->struct_size;
  if (size < kStructBytesMin || size > kStructBytesMax) return;
  auto* const bytes = reinterpret_cast<char*>(out);
  memcpy(bytes, &decision, std::min<std::size_t>(size, sizeof(decision)));
  if (size > sizeof(decision)) memset(bytes + sizeof(decision), 0, size - sizeof(decision));
  out->struct_size = size;
}

void HandDecision(const Decision& decision, throttl_decision* out) {
  if (out == nullptr) return;
  if (out->struct_size == sizeof(throttl_decision)) return Fill(decision, *out);
  throttl_decision filled = THROTTL_DECISION_INIT;
  Fill(decision, filled);
  Hand(filled, out);
}

enum class How : std::uint8_t { kValidate, kPeek };

Decision DecideOne(Engine& engine, const throttl_request& request, How how) {
  if (!IsRequest(request)) return Decision{.code = DecisionCode::kInvalidRequest};
  const Request asked{.cost = request.cost,
                      .method = ViewOf(request.method),
                      .endpoint = ViewOf(request.endpoint),
                      .address = ViewOf(request.address),
                      .scope = ViewOf(request.scope)};
  const std::string_view secret = ViewOf(request.secret);
  return how == How::kPeek ? engine.Peek(secret, asked) : engine.Validate(secret, asked);
}

Decision DecideAny(Engine& engine, const throttl_request* request, How how) {
  if (request->struct_size == sizeof(throttl_request)) return DecideOne(engine, *request, how);
  const throttl_request defaults = THROTTL_REQUEST_INIT;
  const std::optional<throttl_request> adopted = Adopt(request, defaults);
  if (!adopted.has_value()) return Decision{.code = DecisionCode::kInvalidRequest};
  return DecideOne(engine, *adopted, how);
}

std::int32_t Decide(throttl_engine* handle, const throttl_request* request, throttl_decision* out,
                    How how) noexcept {
  const EngineCall call(handle);
  Decision decision{.code = DecisionCode::kInvalidRequest};
  if (call.engine() != nullptr && request != nullptr) {
    decision = DecideAny(*call.engine(), request, how);
  }
  HandDecision(decision, out);
  return decision.allowed() ? 1 : 0;
}

// An array's element, at the distance that the caller's version of the struct has.
template <typename Struct>
Struct* ElementAt(Struct* first, std::size_t stride, std::size_t i) {
  if (first == nullptr) return nullptr;
  using Byte = std::conditional_t<std::is_const_v<Struct>, const char, char>;
  return reinterpret_cast<Struct*>(reinterpret_cast<Byte*>(first) + stride * i);
}

template <typename Struct>
bool HaveOneSize(const Struct* first, std::size_t count) {
  if (first == nullptr) return true;
  const std::uint32_t size = first->struct_size;
  if (size < kStructBytesMin || size > kStructBytesMax || size % alignof(Struct) != 0) return false;
  for (std::size_t i = 1; i < count; ++i) {
    if (ElementAt(first, size, i)->struct_size != size) return false;
  }
  return true;
}

std::size_t DecideMany(throttl_engine* handle, const throttl_request* requests,
                       throttl_decision* out, std::size_t count) noexcept {
  if (count == 0 || !HaveOneSize(out, count)) return 0;
  const bool fit = requests != nullptr && HaveOneSize(requests, count);
  const EngineCall call(handle);
  const std::size_t request_bytes = fit ? requests->struct_size : 0;
  const std::size_t decision_bytes = out == nullptr ? 0 : out->struct_size;
  std::size_t allowed = 0;
  for (std::size_t i = 0; i < count; ++i) {
    Decision decision{.code = DecisionCode::kInvalidRequest};
    if (fit && call.engine() != nullptr) {
      decision = DecideAny(*call.engine(), ElementAt(requests, request_bytes, i), How::kValidate);
    }
    HandDecision(decision, ElementAt(out, decision_bytes, i));
    if (decision.allowed()) ++allowed;
  }
  return allowed;
}

absl::Time TimeOf(std::int64_t ms) { return absl::FromUnixMillis(ms); }

std::optional<absl::Time> OptionalTimeOf(std::int64_t ms) {
  if (ms < 0) return std::nullopt;
  return TimeOf(ms);
}

template <std::size_t kBytes>
std::string_view TextIn(const char (&text)[kBytes]) {
  return {text, strnlen(text, kBytes - 1)};
}

// Whether numbers are such as this library hands out: none of them overflows in what is made of it.
bool IsInBounds(const throttl_decision& decision) {
  constexpr std::int64_t kMillisMax = std::int64_t{1} << 53;
  const auto is_time = [](std::int64_t ms) { return ms >= -kMillisMax && ms <= kMillisMax; };
  const auto is_count = [](std::int64_t count) { return count >= -1 && count <= kMillisMax; };
  return decision.code >= 0 && decision.code <= THROTTL_CODE_INVALID_REQUEST &&
         decision.quota_period >= 0 &&
         decision.quota_period <= static_cast<std::int32_t>(Period::kLifetime) &&
         is_count(decision.spent) && is_count(decision.quota_limit) &&
         is_count(decision.quota_used) && is_count(decision.rate_limit) &&
         is_count(decision.rate_remaining) && is_count(decision.rate_window_ms) &&
         is_count(decision.retry_after_ms) && is_time(decision.decided_at_ms) &&
         is_time(decision.quota_resets_at_ms) && is_time(decision.quota_starts_at_ms) &&
         is_time(decision.rate_resets_at_ms) && is_time(decision.secret_expires_at_ms);
}

// A decision that this library handed out, or one like it. std::nullopt: it is none.
std::optional<Decision> DecisionOf(const throttl_decision* given) {
  if (given == nullptr) return std::nullopt;
  const throttl_decision defaults = THROTTL_DECISION_INIT;
  const std::optional<throttl_decision> adopted = Adopt(given, defaults);
  if (!adopted.has_value()) return std::nullopt;
  const throttl_decision& from = *adopted;
  if (!IsInBounds(from)) return std::nullopt;
  Decision decision{.code = static_cast<DecisionCode>(from.code),
                    .secret_retiring = (from.flags & THROTTL_FLAG_SECRET_RETIRING) != 0,
                    .unmetered = (from.flags & THROTTL_FLAG_UNMETERED) != 0,
                    .over_quota = (from.flags & THROTTL_FLAG_OVER_QUOTA) != 0,
                    .alert_percent = from.alert_percent,
                    .spent = from.spent,
                    .key_id = TextIn(from.key_id),
                    .owner_id = TextIn(from.owner_id),
                    .plan_id = TextIn(from.plan_id),
                    .decided_at = TimeOf(from.decided_at_ms),
                    .secret_expires_at = OptionalTimeOf(from.secret_expires_at_ms),
                    .ticket = {from.ticket[0], from.ticket[1]}};
  if (from.quota_limit >= 0) decision.quota.limit = from.quota_limit;
  decision.quota.used = from.quota_used;
  decision.quota.resets_at = OptionalTimeOf(from.quota_resets_at_ms);
  if (from.quota_starts_at_ms >= 0) decision.quota.starts_at = TimeOf(from.quota_starts_at_ms);
  if (from.quota_period != 0) decision.quota.period = static_cast<Period>(from.quota_period);
  if (from.rate_limit >= 0) {
    decision.rate = {.name = TextIn(from.rate_name),
                     .limit = from.rate_limit,
                     .remaining = from.rate_remaining,
                     .window = absl::Milliseconds(from.rate_window_ms),
                     .resets_at = TimeOf(from.rate_resets_at_ms)};
  }
  if (from.retry_after_ms >= 0) decision.retry_after = absl::Milliseconds(from.retry_after_ms);
  return decision;
}

std::int64_t Adjust(throttl_engine* handle, throttl_decision* given,
                    std::int64_t actual_cost) noexcept {
  std::optional<Decision> decision = DecisionOf(given);
  if (!decision.has_value()) return 0;
  const EngineCall call(handle);
  if (call.engine() == nullptr) return decision->spent;
  const std::int64_t spent = call.engine()->Adjust(*decision, actual_cost);
  constexpr std::size_t kSpentEnd = offsetof(throttl_decision, spent) + sizeof(std::int64_t);
  if (given->struct_size >= kSpentEnd) given->spent = spent;
  return spent;
}

// As snprintf.
std::size_t Print(std::string_view text, char* buffer, std::size_t capacity) {
  if (buffer == nullptr || capacity == 0) return text.size();
  const std::size_t copied = std::min(text.size(), capacity - 1);
  memcpy(buffer, text.data(), copied);
  buffer[copied] = '\0';
  return text.size();
}

std::string HeaderLines(const throttl_decision* given, const throttl_text& options) {
  const std::optional<Decision> decision = DecisionOf(given);
  const absl::StatusOr<std::string_view> text = TextOf(options, "options", kJsonBytesMax);
  if (!decision.has_value() || !text.ok()) return "";
  const absl::StatusOr<Json> object = ParseObject(*text, "options");
  if (!object.ok()) return "";
  std::string realm;
  std::string scope;
  const absl::StatusOr<HttpOptions> read = ReadHttpOptions(*object, realm, scope);
  if (!read.ok()) return "";
  std::string lines;
  for (const HttpHeader& header : HttpHeaders(*decision, *read)) {
    lines.append(header.name).append(": ").append(header.value).append("\r\n");
  }
  return lines;
}

// `make` with its text printed; an empty one when memory has run out.
template <typename Make>
std::size_t PrintGuarded(char* buffer, std::size_t capacity, const Make& make) noexcept {
  try {
    return Print(make(), buffer, capacity);
  } catch (...) {
    return Print("", buffer, capacity);
  }
}

// Constants end with NUL: they are literals.
const char* NameOf(std::int32_t code, std::string_view (*name)(DecisionCode)) {
  if (code < 0 || code > THROTTL_CODE_INVALID_REQUEST) return "";
  return name(static_cast<DecisionCode>(code)).data();
}

}  // namespace
}  // namespace throttl::capi

extern "C" {

int32_t throttl_validate(throttl_engine* engine, const throttl_request* request,
                         throttl_decision* decision) {
  return throttl::capi::Decide(engine, request, decision, throttl::capi::How::kValidate);
}

int32_t throttl_peek(throttl_engine* engine, const throttl_request* request,
                     throttl_decision* decision) {
  return throttl::capi::Decide(engine, request, decision, throttl::capi::How::kPeek);
}

size_t throttl_validate_many(throttl_engine* engine, const throttl_request* requests,
                             throttl_decision* decisions, size_t count) {
  return throttl::capi::DecideMany(engine, requests, decisions, count);
}

int64_t throttl_adjust(throttl_engine* engine, throttl_decision* decision, int64_t actual_cost) {
  return throttl::capi::Adjust(engine, decision, actual_cost);
}

const char* throttl_code_name(int32_t code) {
  return throttl::capi::NameOf(code, throttl::CodeName);
}

const char* throttl_code_public_name(int32_t code) {
  return throttl::capi::NameOf(code, throttl::PublicCodeName);
}

size_t throttl_http_headers(const throttl_decision* decision, throttl_text options, char* buffer,
                            size_t capacity) {
  return throttl::capi::PrintGuarded(buffer, capacity,
                                     [&] { return throttl::capi::HeaderLines(decision, options); });
}

size_t throttl_problem_json(const throttl_decision* decision, char* buffer, size_t capacity) {
  return throttl::capi::PrintGuarded(buffer, capacity, [&]() -> std::string {
    const auto read = throttl::capi::DecisionOf(decision);
    return read.has_value() ? throttl::ProblemJson(*read) : "";
  });
}

throttl_text throttl_secret_from_headers(throttl_text authorization, throttl_text x_api_key) {
  using namespace throttl::capi;
  if (!IsText(authorization) || !IsText(x_api_key)) return {nullptr, 0};
  const std::string_view secret = throttl::SecretFromHeaders(
      {.authorization = ViewOf(authorization), .x_api_key = ViewOf(x_api_key)});
  return {secret.data(), secret.size()};
}

}  // extern "C"
