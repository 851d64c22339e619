#include "src/capi/error_object.h"

#include <pthread.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "src/capi/handle_name.h"

namespace throttl::capi {
namespace {

struct ErrorText {
  throttl_status status = THROTTL_OK;
  std::string message;
};

// The errors that are not freed yet, by the bits of their handles. Never destroyed: a host may free
// an error while it ends.
struct Errors {
  std::mutex mutex;
  std::unordered_map<std::uint64_t, std::unique_ptr<const ErrorText>> by_name;
  std::uint64_t next_use = 1;
};

Errors& AllErrors() {
  static Errors* const kErrors = [] {
    auto* const made = new Errors;
    static Errors* const kForFork = made;
    // A forked child has no thread that would let go of the lock.
    pthread_atfork([] { kForFork->mutex.lock(); }, [] { kForFork->mutex.unlock(); },
                   [] { kForFork->mutex.unlock(); });
    return made;
  }();
  return *kErrors;
}

constexpr std::uint64_t kOutOfMemorySlot = 1;

HandleName OutOfMemoryName() { return {HandleKind::kError, kOutOfMemorySlot, 0}; }

void Set(const HandleName& name, throttl_error** error) {
  if (error != nullptr) *error = name.pointer<throttl_error>();
}

// nullptr: there is none of that name.
const ErrorText* Find(const throttl_error* error) {
  Errors& errors = AllErrors();
  const std::lock_guard lock(errors.mutex);
  const auto found = errors.by_name.find(HandleName::Of(error).bits());
  return found == errors.by_name.end() ? nullptr : found->second.get();
}

bool IsOutOfMemory(const throttl_error* error) {
  return HandleName::Of(error).bits() == OutOfMemoryName().bits();
}

}  // namespace

throttl_status Fail(const absl::Status& status, throttl_error** error) noexcept {
  const throttl_status code = status.raw_code();
  if (error == nullptr) return code;
  try {
    auto text = std::make_unique<ErrorText>();
    text->status = code;
    text->message = std::string(status.message().data(), status.message().size());
    Errors& errors = AllErrors();
    const std::lock_guard lock(errors.mutex);
    const HandleName name(HandleKind::kError, 0, errors.next_use);
    errors.by_name.emplace(name.bits(), std::move(text));
    ++errors.next_use;
    Set(name, error);
  } catch (...) {
    Set(OutOfMemoryName(), error);
  }
  return code;
}

throttl_status FailOutOfMemory(throttl_error** error) noexcept {
  Set(OutOfMemoryName(), error);
  return THROTTL_RESOURCE_EXHAUSTED;
}

}  // namespace throttl::capi

extern "C" {

throttl_status throttl_error_status(const throttl_error* error) {
  using namespace throttl::capi;
  if (error == nullptr) return THROTTL_OK;
  if (IsOutOfMemory(error)) return THROTTL_RESOURCE_EXHAUSTED;
  const ErrorText* const text = Find(error);
  return text == nullptr ? THROTTL_INVALID_ARGUMENT : text->status;
}

const char* throttl_error_message(const throttl_error* error) {
  using namespace throttl::capi;
  if (error == nullptr) return "";
  if (IsOutOfMemory(error)) return "memory has run out";
  const ErrorText* const text = Find(error);
  return text == nullptr ? "" : text->message.c_str();
}

void throttl_error_free(throttl_error* error) {
  using namespace throttl::capi;
  if (error == nullptr) return;
  Errors& errors = AllErrors();
  const std::lock_guard lock(errors.mutex);
  errors.by_name.erase(HandleName::Of(error).bits());
}

}  // extern "C"
