// Replays logged requests against a quota, each at its own time: who would have been refused?
//
//   replay [--db URL] [--quota N] [--period day|month] [--json FILE] CSV
//
//   --db URL      the store: "memory:", a path, "sqlite:PATH"; a file is made when it is not there,
//                 and gets new keys when it is. Without it: a file that is removed in the end.
//   --quota N     units that each client may use in a period: 100 by default
//   --period P    day (the default) or month, of the calendar in UTC
//   --json FILE   writes there what was found of every client
//   CSV           RFC 4180, with the columns time (RFC 3339) and client; see data/README.md
//
// Each client has a key of its own, on one plan. Requests are validated in the order of the file;
// one whose time is earlier than another of its client counts in the newest period that the client
// has reached, since no clock reopens a period that has closed.
// Exits with 0; 1 when something failed, also the CSV; 2 when an argument is wrong.
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <throttl/engine.h>

#include "request_log.h"

namespace {

constexpr char kUsage[] =
    "usage: replay [--db URL] [--quota N] [--period day|month] [--json FILE] CSV\n";
constexpr char kPlanId[] = "replay";
constexpr std::size_t kBusiestShown = 10;

struct ReplayOptions {
  std::optional<std::string> db = std::nullopt;  // std::nullopt: a file that is removed in the end
  std::int64_t quota = 100;
  throttl::Period period = throttl::Period::kDay;
  std::optional<std::string> json = std::nullopt;
  std::string csv = {};
};

struct Client {
  throttl::Secret secret = {};
  std::int64_t allowed = 0;
  std::int64_t refused = 0;
  std::optional<absl::Time> first_refused_at = std::nullopt;
};

struct Replayed {
  std::map<std::string, Client> clients = {};
  std::map<std::string_view, std::int64_t> by_code = {};
  std::int64_t allowed = 0;
  std::int64_t refused = 0;
  double seconds = 0;  // of the requests alone
};

// --- Arguments

absl::Status SetQuota(const std::string& text, ReplayOptions& options) {
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, options.quota);
  if (error == std::errc() && stopped == end && options.quota >= 0 &&
      options.quota <= throttl::kLimitMax) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("--quota is \"" + text + "\", a whole number from 0 to " +
                                    std::to_string(throttl::kLimitMax) + " is required");
}

absl::Status SetPeriod(const std::string& text, ReplayOptions& options) {
  for (const throttl::Period period : {throttl::Period::kDay, throttl::Period::kMonth}) {
    if (text != throttl::PeriodName(period)) continue;
    options.period = period;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("--period is \"" + text + "\", day or month is required");
}

absl::Status SetOption(std::string_view name, const std::string& value, ReplayOptions& options) {
  if (name == "--quota") return SetQuota(value, options);
  if (name == "--period") return SetPeriod(value, options);
  if (value.empty()) return absl::InvalidArgumentError(std::string(name) + " is empty");
  (name == "--db" ? options.db : options.json) = value;
  return absl::OkStatus();
}

absl::StatusOr<ReplayOptions> ParseArguments(const std::vector<std::string>& arguments) {
  constexpr std::string_view kOptions[] = {"--db", "--quota", "--period", "--json"};
  ReplayOptions options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (std::find(std::begin(kOptions), std::end(kOptions), argument) != std::end(kOptions)) {
      if (++i == arguments.size()) return absl::InvalidArgumentError(argument + " needs a value");
      const absl::Status status = SetOption(argument, arguments[i], options);
      if (!status.ok()) return status;
    } else if (argument.starts_with('-')) {
      return absl::InvalidArgumentError("there is no option " + argument);
    } else if (!options.csv.empty()) {
      return absl::InvalidArgumentError("one CSV is replayed, and \"" + argument + "\" is another");
    } else {
      options.csv = argument;
    }
  }
  if (options.csv.empty()) return absl::InvalidArgumentError("a CSV file is required");
  return options;
}

// --- The replay

// A directory of this run's own, removed with what is in it.
class RunDirectory {
 public:
  RunDirectory() {
    std::error_code error;
    const std::filesystem::path base = std::filesystem::temp_directory_path(error);
    std::string name = (base / "throttl-replay-XXXXXX").string();
    if (!error && mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~RunDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  const std::string& path() const { return path_; }  // empty: it could not be made

 private:
  std::string path_;
};

// How far the replay is, on a terminal; nothing anywhere else.
class ProgressBar {
 public:
  explicit ProgressBar(std::size_t steps) : steps_(steps), shown_(isatty(STDERR_FILENO) == 1) {}
  ~ProgressBar() {
    if (shown_) std::cerr << "\r\x1b[K" << std::flush;
  }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void Show(std::size_t done) {
    constexpr std::size_t kWidth = 50;
    const std::size_t percent = done * 100 / steps_;
    if (!shown_ || percent == percent_) return;
    percent_ = percent;
    const std::size_t filled = percent * kWidth / 100;
    std::cerr << "\r[" << std::string(filled, '#') << std::string(kWidth - filled, '.') << "] "
              << percent << " %" << std::flush;
  }

 private:
  std::size_t steps_;
  std::size_t percent_ = 101;
  bool shown_;
};

absl::Status IssueKeys(throttl::Engine& engine, const std::vector<LoggedRequest>& log,
                       Replayed& replayed) {
  for (const LoggedRequest& request : log) {
    if (replayed.clients.contains(request.client)) continue;
    absl::StatusOr<throttl::IssuedKey> issued =
        engine.CreateKey({.owner_id = request.client, .plan_id = kPlanId, .name = request.client});
    if (!issued.ok()) {
      return absl::Status(issued.status().code(), "the client of line " +
                                                      std::to_string(request.line) + ": " +
                                                      std::string(issued.status().message()));
    }
    replayed.clients[request.client].secret = std::move(issued->secret);
  }
  return absl::OkStatus();
}

void Count(const throttl::Decision& decision, Client& client, Replayed& replayed) {
  ++replayed.by_code[throttl::CodeName(decision.code)];
  ++(decision.allowed() ? client.allowed : client.refused);
  ++(decision.allowed() ? replayed.allowed : replayed.refused);
  if (!decision.allowed() && !client.first_refused_at.has_value()) {
    client.first_refused_at = decision.decided_at;
  }
}

void ValidateAll(throttl::Engine& engine, const std::vector<LoggedRequest>& log,
                 throttl::ManualClock& clock, Replayed& replayed) {
  ProgressBar bar(log.size());
  const auto begin = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < log.size(); ++i) {
    Client& client = replayed.clients.find(log[i].client)->second;
    clock.JumpTo(log[i].time);
    const throttl::Request request = {.cost = 1, .method = log[i].method, .endpoint = log[i].path};
    Count(engine.Validate(client.secret.Reveal(), request), client, replayed);
    bar.Show(i + 1);
  }
  replayed.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

absl::StatusOr<Replayed> Replay(const std::string& url, const ReplayOptions& options,
                                const std::vector<LoggedRequest>& log) {
  const auto clock = std::make_shared<throttl::ManualClock>(log.front().time);
  auto engine = throttl::Engine::Open(url, {.clock = clock});
  if (!engine.ok()) return engine.status();
  const throttl::Quota quota = {.limit = options.quota, .period = options.period};
  const auto plan = (*engine)->PutPlan({.id = kPlanId, .name = "Replay", .quota = quota});
  if (!plan.ok()) return plan.status();
  Replayed replayed;
  absl::Status status = IssueKeys(**engine, log, replayed);
  if (!status.ok()) return status;
  ValidateAll(**engine, log, *clock, replayed);
  // A request that the store could not decide would make every number below wrong.
  if (replayed.by_code.contains(throttl::CodeName(throttl::DecisionCode::kStoreUnavailable))) {
    status = (*engine)->stats().last_store_error;
    return absl::UnavailableError("the store could not be asked: " + status.ToString());
  }
  status = (*engine)->Close();
  if (!status.ok()) return status;
  return replayed;
}

// --- Results

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d%ET%H:%M:%E*SZ", time, absl::UTCTimeZone());
}

void PrintBusiest(const Replayed& replayed) {
  const auto requests = [](const auto* entry) {
    return entry->second.allowed + entry->second.refused;
  };
  std::vector<const std::pair<const std::string, Client>*> busiest;
  for (const auto& entry : replayed.clients) busiest.push_back(&entry);
  // Stable: clients that made equally many stay in the order of their names.
  std::stable_sort(busiest.begin(), busiest.end(),
                   [&](const auto* a, const auto* b) { return requests(a) > requests(b); });
  if (busiest.size() > kBusiestShown) busiest.resize(kBusiestShown);
  std::cout << "\nthe busiest clients      allowed  refused  first refused at\n";
  for (const auto* entry : busiest) {
    const Client& client = entry->second;
    std::cout << "  " << std::left << std::setw(20) << entry->first << std::right << std::setw(10)
              << client.allowed << std::setw(9) << client.refused;
    if (client.first_refused_at) std::cout << "  " << TimeText(*client.first_refused_at);
    std::cout << '\n';
  }
}

void Print(const Replayed& replayed, const ReplayOptions& options) {
  const std::int64_t requests = replayed.allowed + replayed.refused;
  std::cout << requests << " requests of " << replayed.clients.size() << " clients, each with "
            << options.quota << " a " << throttl::PeriodName(options.period) << ": "
            << replayed.allowed << " allowed, " << replayed.refused << " refused\n";
  for (const auto& [code, count] : replayed.by_code) {
    std::cout << "  " << code << ": " << count << '\n';
  }
  PrintBusiest(replayed);
  std::cout << '\n'
            << std::llround(static_cast<double>(requests) / replayed.seconds)
            << " requests a second\n";
}

absl::Status WriteJson(const Replayed& replayed, const std::string& path) {
  using Json = nlohmann::ordered_json;
  Json by_code = Json::object();
  for (const auto& [code, count] : replayed.by_code) by_code[std::string(code)] = count;
  Json clients = Json::array();
  for (const auto& [name, client] : replayed.clients) {
    Json first = nullptr;
    if (client.first_refused_at) first = TimeText(*client.first_refused_at);
    clients.push_back({{"client", name},
                       {"allowed", client.allowed},
                       {"refused", client.refused},
                       {"first_refused_at", std::move(first)}});
  }
  const Json whole = {{"requests", replayed.allowed + replayed.refused},
                      {"allowed", replayed.allowed},
                      {"refused", replayed.refused},
                      {"by_code", std::move(by_code)},
                      {"clients", std::move(clients)}};
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << whole.dump(1, ' ', false, Json::error_handler_t::replace) << '\n';
  file.close();
  if (file.fail()) return absl::UnavailableError(path + " cannot be written");
  return absl::OkStatus();
}

absl::Status Run(const ReplayOptions& options) {
  const absl::StatusOr<std::vector<LoggedRequest>> log = ReadRequestLog(options.csv);
  if (!log.ok()) return log.status();
  if (log->empty()) return absl::InvalidArgumentError(options.csv + " has no requests");
  std::optional<RunDirectory> directory;
  std::string url = options.db.value_or("");
  if (!options.db.has_value()) {
    directory.emplace();
    if (directory->path().empty()) {
      return absl::UnavailableError("a temporary directory cannot be made: give --db");
    }
    url = "sqlite:" + directory->path() + "/throttl.db";
  }
  const absl::StatusOr<Replayed> replayed = Replay(url, options, *log);
  if (!replayed.ok()) return replayed.status();
  Print(*replayed, options);
  return options.json.has_value() ? WriteJson(*replayed, *options.json) : absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments == std::vector<std::string>{"--help"}) return std::cout << kUsage, 0;
  const absl::StatusOr<ReplayOptions> options = ParseArguments(arguments);
  if (!options.ok()) {
    return std::cerr << "replay: " << options.status().message() << '\n' << kUsage, 2;
  }
  const absl::Status status = Run(*options);
  if (!status.ok()) std::cerr << "replay: " << status.message() << '\n';
  return status.ok() ? 0 : 1;
}
