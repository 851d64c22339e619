// ReadRequestLog reads requests from a CSV file (RFC 4180), for replay.cc.
//
// Thread safety: a function of its argument; the result is a value.
//
//   absl::StatusOr<std::vector<LoggedRequest>> log = ReadRequestLog("requests.csv");
#ifndef THROTTL_EXAMPLES_REQUEST_LOG_H_
#define THROTTL_EXAMPLES_REQUEST_LOG_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

struct LoggedRequest {
  std::int64_t line = 0;  // of the file, where it begins; the first is 1
  absl::Time time = absl::UnixEpoch();
  std::string client = {};
  std::string method = {};  // empty when the file has no such column; so is `path`
  std::string path = {};
};

// The requests of the file at `path`, in its order. Its first row names the columns; `time` (RFC
// 3339, 1970 to 2199) and `client` (1 to 63 bytes) must be there, `method` and `path` may be, and
// others are skipped, as empty lines are. InvalidArgument: names the line, the value and the bound.
// NotFound: there is no such file, or it cannot be read.
absl::StatusOr<std::vector<LoggedRequest>> ReadRequestLog(const std::string& path);

// The same, of the text of such a file.
absl::StatusOr<std::vector<LoggedRequest>> ParseRequestLog(std::string_view text);

#endif  // THROTTL_EXAMPLES_REQUEST_LOG_H_
