#include "src/open/store_url.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "src/base/absl_string.h"
#include "src/base/status_macros.h"
#include "src/base/text_check.h"

namespace throttl::internal {
namespace {

struct Parameter {
  std::string name = {};
  std::string value = {};
};

absl::Status BadValue(const Parameter& parameter, absl::string_view allowed) {
  return absl::InvalidArgumentError(absl::StrCat(
      "parameter ", parameter.name, " is ", Quoted(parameter.value), ", ", allowed, " is allowed"));
}

absl::Status UnknownParameter(const Parameter& parameter, absl::string_view known) {
  return absl::InvalidArgumentError(
      absl::StrCat("the store has no parameter ", Quoted(parameter.name), "; it has ", known));
}

absl::StatusOr<std::vector<Parameter>> ParseParameters(std::string_view text) {
  std::vector<Parameter> parameters;
  for (const absl::string_view part : absl::StrSplit(AbslView(text), '&', absl::SkipEmpty())) {
    const std::size_t equals = part.find('=');
    if (equals == absl::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat("parameter ", Quoted(StdView(part)),
                                                     " has no value: name=value is expected"));
    }
    parameters.push_back({.name = std::string(part.substr(0, equals)),
                          .value = std::string(part.substr(equals + 1))});
    for (std::size_t i = 0; i + 1 < parameters.size(); ++i) {
      if (parameters[i].name != parameters.back().name) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("parameter ", Quoted(parameters[i].name), " is there twice"));
    }
  }
  return parameters;
}

absl::Status ReadCount(const Parameter& parameter, std::int64_t& count) {
  if (absl::SimpleAtoi(parameter.value, &count) && count >= 1) return absl::OkStatus();
  return BadValue(parameter, "a whole number from 1");
}

absl::Status SetParameter(const Parameter& parameter, SqliteStoreOptions& options) {
  if (parameter.name == "durability") {
    if (parameter.value != "process" && parameter.value != "power") {
      return BadValue(parameter, "process or power");
    }
    options.durability = parameter.value == "power" ? Durability::kPower : Durability::kProcess;
    return absl::OkStatus();
  }
  if (parameter.name == "create") {
    if (parameter.value != "true" && parameter.value != "false") {
      return BadValue(parameter, "true or false");
    }
    options.create = parameter.value == "true";
    return absl::OkStatus();
  }
  if (parameter.name == "busy_timeout") {
    if (absl::ParseDuration(parameter.value, &options.busy_timeout)) return absl::OkStatus();
    return BadValue(parameter, "a duration such as 5s");
  }
  if (parameter.name == "wal_bytes_max") return ReadCount(parameter, options.wal_bytes_max);
  return UnknownParameter(parameter, "durability, create, busy_timeout and wal_bytes_max");
}

absl::Status SetParameter(const Parameter& parameter, MemoryStoreOptions& options) {
  if (parameter.name == "keys_max") return ReadCount(parameter, options.keys_max);
  if (parameter.name == "usage_rows_max") return ReadCount(parameter, options.usage_rows_max);
  if (parameter.name == "events_max") return ReadCount(parameter, options.events_max);
  return UnknownParameter(parameter, "keys_max, usage_rows_max and events_max");
}

// "sqlite" of "sqlite:PATH", and empty for a path: "./a:b" and "/a:b" have no scheme.
std::string_view SchemeOf(std::string_view url) {
  const std::size_t colon = url.find(':');
  if (colon == std::string_view::npos) return {};
  const std::string_view scheme = url.substr(0, colon);
  const bool plain =
      std::all_of(scheme.begin(), scheme.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  return plain ? scheme : std::string_view();
}

}  // namespace

absl::StatusOr<StoreUrl> ParseStoreUrl(std::string_view url) {
  const std::string_view scheme = SchemeOf(url);
  const bool has_scheme = !scheme.empty();
  if (has_scheme && scheme != "memory" && scheme != "sqlite") {
    return absl::InvalidArgumentError(absl::StrCat("the store ", Quoted(scheme),
                                                   " is not known; memory: and sqlite: are, and a "
                                                   "path with a colon in it begins with ./ or /"));
  }
  std::string_view rest = has_scheme ? url.substr(scheme.size() + 1) : url;
  const std::size_t question = rest.find('?');
  THROTTL_ASSIGN_OR_RETURN(
      const std::vector<Parameter> parameters,
      ParseParameters(question == std::string_view::npos ? "" : rest.substr(question + 1)));
  rest = rest.substr(0, question);
  if (scheme == "memory") {
    if (!rest.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("memory: takes no name, and ", Quoted(rest), " stands after it"));
    }
    MemoryStoreOptions options;
    for (const Parameter& parameter : parameters) {
      THROTTL_RETURN_IF_ERROR(SetParameter(parameter, options));
    }
    return options;
  }
  SqliteStoreOptions options{.path = std::string(rest)};
  for (const Parameter& parameter : parameters) {
    THROTTL_RETURN_IF_ERROR(SetParameter(parameter, options));
  }
  return options;
}

}  // namespace throttl::internal
