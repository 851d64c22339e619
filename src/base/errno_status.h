// The one translation of errno into a status.
//
// Thread safety: pure functions.
//
//   if (fd < 0) return ErrnoStatus(errno, absl::StrCat("opening ", path));
#ifndef THROTTL_SRC_BASE_ERRNO_STATUS_H_
#define THROTTL_SRC_BASE_ERRNO_STATUS_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace throttl::internal {

// NotFound for a missing file or directory, FailedPrecondition for what somebody must change
// (permissions, read-only, links, a directory), ResourceExhausted for a full disk or too many
// files, else Unavailable. The message is "<what>: <the system's text>".
absl::Status ErrnoStatus(int error, absl::string_view what);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_ERRNO_STATUS_H_
