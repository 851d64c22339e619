// An error object of the C ABI is a name for a status with a message: the pointer says a place and
// a number, and is never followed.
//
// Thread safety: any thread; a message is there until its error is freed.
//
//   return Fail(absl::InvalidArgumentError("json is not JSON"), error);
#ifndef THROTTL_SRC_CAPI_ERROR_OBJECT_H_
#define THROTTL_SRC_CAPI_ERROR_OBJECT_H_

#include "absl/status/status.h"

#include "throttl.h"

namespace throttl::capi {

// Hands back an error object of `status` if `error` is not NULL, and returns its number. Where
// there is no memory for one, it is the one that says so.
throttl_status Fail(const absl::Status& status, throttl_error** error) noexcept;
// The same without a status: memory has run out.
throttl_status FailOutOfMemory(throttl_error** error) noexcept;

}  // namespace throttl::capi

#endif  // THROTTL_SRC_CAPI_ERROR_OBJECT_H_
