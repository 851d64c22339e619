#include "request_log.h"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <optional>
#include <utility>

#include <throttl/decision.h>

namespace {

constexpr std::size_t kValueBytesShown = 60;

absl::Status LineError(std::int64_t line, const std::string& what) {
  return absl::InvalidArgumentError("line " + std::to_string(line) + ": " + what);
}

std::string Shown(std::string_view value) {
  const bool whole = value.size() <= kValueBytesShown;
  return '"' + std::string(value.substr(0, kValueBytesShown)) + (whole ? "\"" : "...\"");
}

// Splits a text into the rows and cells of RFC 4180; a line may also end with LF alone.
class CsvReader {
 public:
  explicit CsvReader(std::string_view text) : rest_(text) {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
  }

  // The next row that is not an empty line; no cells at the end of the text.
  absl::StatusOr<std::vector<std::string>> Next() {
    while (TakeLineEnd()) {
    }
    row_line_ = line_;
    std::vector<std::string> cells;
    if (rest_.empty()) return cells;
    do {
      absl::StatusOr<std::string> cell = rest_.starts_with('"') ? QuotedCell() : PlainCell();
      if (!cell.ok()) return cell.status();
      cells.push_back(*std::move(cell));
    } while (Take(","));
    if (!rest_.empty() && !TakeLineEnd()) {
      return LineError(line_, Shown(rest_.substr(0, 1)) +
                                  " follows the closing quote of a cell, a comma or the end of the "
                                  "line is required");
    }
    return cells;
  }

  std::int64_t row_line() const { return row_line_; }  // where the last row began

 private:
  bool Take(std::string_view token) {
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }

  bool TakeLineEnd() {
    if (!Take("\r\n") && !Take("\n")) return false;
    ++line_;
    return true;
  }

  absl::StatusOr<std::string> PlainCell() {
    std::string cell(rest_.substr(0, rest_.find_first_of(",\r\n")));
    if (cell.find('"') != std::string::npos) {
      return LineError(line_,
                       "the cell " + Shown(cell) + " has a quote but does not begin with one");
    }
    rest_.remove_prefix(cell.size());
    if (rest_.starts_with('\r') && !rest_.starts_with("\r\n")) {
      return LineError(line_, "a carriage return is not followed by a line feed");
    }
    return cell;
  }

  absl::StatusOr<std::string> QuotedCell() {
    const std::int64_t opened_at = line_;
    std::string cell;
    Take("\"");
    while (true) {
      const std::size_t quote = rest_.find('"');
      if (quote == std::string_view::npos) {
        return LineError(opened_at, "a quoted cell is not closed before the end of the file");
      }
      const std::string_view part = rest_.substr(0, quote);
      line_ += std::count(part.begin(), part.end(), '\n');
      cell.append(part);
      rest_.remove_prefix(quote + 1);
      if (!Take("\"")) return cell;
      cell.push_back('"');
    }
  }

  std::string_view rest_;
  std::int64_t line_ = 1;
  std::int64_t row_line_ = 1;
};

// Where the cells that matter stand in each row.
struct Columns {
  std::size_t count = 0;
  std::size_t time = 0;
  std::size_t client = 0;
  std::optional<std::size_t> method = std::nullopt;
  std::optional<std::size_t> path = std::nullopt;
};

std::optional<std::size_t> Find(const std::vector<std::string>& names, std::string_view name) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) return std::nullopt;
  return static_cast<std::size_t>(found - names.begin());
}

absl::StatusOr<Columns> ReadColumns(CsvReader& reader) {
  absl::StatusOr<std::vector<std::string>> names = reader.Next();
  if (!names.ok()) return names.status();
  const std::optional<std::size_t> time = Find(*names, "time");
  const std::optional<std::size_t> client = Find(*names, "client");
  if (!time.has_value() || !client.has_value()) {
    return LineError(reader.row_line(),
                     std::string("there is no column ") + (time.has_value() ? "client" : "time") +
                         ", the first row shall name the columns time and client");
  }
  return Columns{.count = names->size(),
                 .time = *time,
                 .client = *client,
                 .method = Find(*names, "method"),
                 .path = Find(*names, "path")};
}

absl::StatusOr<absl::Time> ParseTime(const std::string& text) {
  static const absl::Time kEnd = absl::FromCivil(absl::CivilYear(2200), absl::UTCTimeZone());
  absl::Time time;
  std::string error;
  if (!absl::ParseTime(absl::RFC3339_full, text, &time, &error)) {
    return absl::InvalidArgumentError("time is " + Shown(text) +
                                      ", RFC 3339 is required, as 2015-05-17T10:05:00Z");
  }
  if (time < absl::UnixEpoch() || time >= kEnd) {
    return absl::InvalidArgumentError("time is " + Shown(text) + ", 1970 to 2199 is required");
  }
  return time;
}

absl::StatusOr<LoggedRequest> MakeRequest(std::vector<std::string> cells, const Columns& columns,
                                          std::int64_t line) {
  if (cells.size() != columns.count) {
    return LineError(line, "it has " + std::to_string(cells.size()) + " cells, " +
                               std::to_string(columns.count) + " are required");
  }
  const absl::StatusOr<absl::Time> time = ParseTime(cells[columns.time]);
  if (!time.ok()) return LineError(line, std::string(time.status().message()));
  const std::string& client = cells[columns.client];
  if (client.empty() || client.size() > throttl::kOwnerIdBytesMax) {
    return LineError(line, "client is " + Shown(client) + ", of " + std::to_string(client.size()) +
                               " bytes, 1 to " + std::to_string(throttl::kOwnerIdBytesMax) +
                               " are required");
  }
  LoggedRequest request{.line = line, .time = *time};
  if (columns.method.has_value()) request.method = std::move(cells[*columns.method]);
  if (columns.path.has_value()) request.path = std::move(cells[*columns.path]);
  request.client = std::move(cells[columns.client]);
  return request;
}

}  // namespace

absl::StatusOr<std::vector<LoggedRequest>> ParseRequestLog(std::string_view text) {
  CsvReader reader(text);
  const absl::StatusOr<Columns> columns = ReadColumns(reader);
  if (!columns.ok()) return columns.status();
  std::vector<LoggedRequest> log;
  while (true) {
    absl::StatusOr<std::vector<std::string>> cells = reader.Next();
    if (!cells.ok()) return cells.status();
    if (cells->empty()) return log;
    absl::StatusOr<LoggedRequest> request =
        MakeRequest(*std::move(cells), *columns, reader.row_line());
    if (!request.ok()) return request.status();
    log.push_back(*std::move(request));
  }
}

absl::StatusOr<std::vector<LoggedRequest>> ReadRequestLog(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.is_open() || file.bad()) return absl::NotFoundError(path + " cannot be read");
  absl::StatusOr<std::vector<LoggedRequest>> log = ParseRequestLog(text);
  if (log.ok()) return log;
  return absl::InvalidArgumentError(path + ", " + std::string(log.status().message()));
}
