#include "src/capi/capi_call.h"

#include <malloc.h>
#include <string.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"

#include "src/capi/documents.h"

namespace throttl::capi {

absl::StatusOr<std::string_view> TextOf(const throttl_text& text, const char* what,
                                        std::size_t bytes_max) {
  if (text.size == 0) return std::string_view();
  if (text.data == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ".data is NULL, and its size is ", text.size));
  }
  if (text.size > bytes_max) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " has ", text.size, " bytes, at most ", bytes_max, " are allowed"));
  }
  return std::string_view(text.data, text.size);
}

absl::StatusOr<char*> CopyForCaller(std::string_view text) {
  auto* const copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy == nullptr) return absl::ResourceExhaustedError("memory has run out");
  text.copy(copy, text.size());
  copy[text.size()] = '\0';
  return copy;
}

// Bytes that are no UTF-8 come from a store of another make only.
std::string TextOfJson(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void Wipe(std::string& text) { explicit_bzero(text.data(), text.size()); }

namespace {

absl::Status Answer(throttl_engine* handle, std::string_view json, char** answer,
                    const ManagementBody& body) {
  const EngineCall call(handle);
  if (call.engine() == nullptr) return NoSuchEngine(handle);
  absl::StatusOr<Json> object = ParseObject(json, "json");
  if (!object.ok()) return object.status();
  ObjectReader members(*object, "");
  Caller caller;
  ReadCaller(members, caller);
  absl::StatusOr<std::string> text =
      body({.engine = *call.engine(), .caller = caller, .members = members});
  if (!text.ok()) return text.status();
  absl::Status status;
  if (answer != nullptr) {
    const absl::StatusOr<char*> copy = CopyForCaller(*text);
    if (copy.ok()) *answer = *copy;
    status = copy.status();
  }
  Wipe(*text);
  return status;
}

}  // namespace

throttl_status Manage(throttl_engine* engine, throttl_text json, char** answer,
                      throttl_error** error, const ManagementBody& body) noexcept {
  if (answer != nullptr) *answer = nullptr;
  return Guarded(error, [&]() -> absl::Status {
    const absl::StatusOr<std::string_view> text = TextOf(json, "json", kJsonBytesMax);
    if (!text.ok()) return text.status();
    return Answer(engine, *text, answer, body);
  });
}

}  // namespace throttl::capi

extern "C" {

int32_t throttl_version_number(void) { return THROTTL_VERSION_NUMBER; }

throttl_text throttl_text_of(const char* nul_terminated) {
  return {nul_terminated, nul_terminated == nullptr ? 0 : strlen(nul_terminated)};
}

// It may be a secret.
void throttl_free(void* text) {
  if (text == nullptr) return;
  explicit_bzero(text, malloc_usable_size(text));
  std::free(text);
}

}  // extern "C"
