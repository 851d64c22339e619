// What every call of the C ABI has around its body: texts are looked at before they are read, and
// no exception gets out.
//
// Thread safety: pure functions.
//
//   return Guarded(error, [&] { return opened->engine->Flush(); });
#ifndef THROTTL_SRC_CAPI_CAPI_CALL_H_
#define THROTTL_SRC_CAPI_CAPI_CALL_H_

#include <cstddef>
#include <functional>
#include <new>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl.h"
#include "throttl/engine.h"

#include "src/capi/engine_table.h"
#include "src/capi/error_object.h"
#include "src/capi/object_reader.h"

namespace throttl::capi {

// Runs `body`, which returns an absl::Status. Sets *error to NULL where it is OK.
template <typename Body>
throttl_status Guarded(throttl_error** error, const Body& body) noexcept {
  if (error != nullptr) *error = nullptr;
  try {
    const absl::Status status = body();
    return status.ok() ? THROTTL_OK : Fail(status, error);
  } catch (const std::bad_alloc&) {
    return FailOutOfMemory(error);
  } catch (...) {
    return Fail(absl::InternalError("an exception that is not of memory"), error);
  }
}

// InvalidArgument: `text` has no data, or more than `bytes_max`; `what` names it.
absl::StatusOr<std::string_view> TextOf(const throttl_text& text, const char* what,
                                        std::size_t bytes_max);

// A copy for throttl_free. ResourceExhausted: memory has run out.
absl::StatusOr<char*> CopyForCaller(std::string_view text);

// What a management call does with the members of its document, but for "caller".
struct ManagementCall {
  Engine& engine;
  const Caller& caller;
  ObjectReader& members;  // to be finished by the body
};
// The answer's text.
using ManagementBody = std::function<absl::StatusOr<std::string>(const ManagementCall& call)>;

// throttl_call with this body.
throttl_status Manage(throttl_engine* engine, throttl_text json, char** answer,
                      throttl_error** error, const ManagementBody& body) noexcept;

// As an answer.
std::string TextOfJson(const Json& json);

// Wipes what may be a secret.
void Wipe(std::string& text);

}  // namespace throttl::capi

// Defines the throttl_call `name` with the ManagementBody throttl::capi::body.
#define THROTTL_DEFINE_CALL(name, body)                                             \
  throttl_status name(throttl_engine* engine, throttl_text json, char** answer,     \
                      throttl_error** error) {                                      \
    return throttl::capi::Manage(engine, json, answer, error, throttl::capi::body); \
  }

#endif  // THROTTL_SRC_CAPI_CAPI_CALL_H_
