#include <stdio.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include <doctest/doctest.h>

#include "src/base/absl_string.h"
#include "src/calendar/quota_calendar.h"
#include "tests/scale.h"

namespace throttl::internal {
namespace {

constexpr std::int64_t kCases = 1'000'000;
constexpr std::int64_t kZonesMin = 22;
constexpr int kDifferencesShown = 10;

struct Case {
  std::int64_t period = 0;
  std::int64_t anchor_day = 0;
  std::int64_t now_ms = 0;
  std::int64_t start = 0;
  std::optional<std::int64_t> end = std::nullopt;
};

struct Outcome {
  std::int64_t cases = 0;
  std::int64_t differences = 0;
  std::int64_t cases_told = -1;  // by the oracle's last line
  std::int64_t near = 0;         // to a transition or a month's end
  std::set<std::string> zones = {};
  std::set<std::int64_t> periods = {};
};

// The next word of `line`, as a number if it is one.
std::optional<std::int64_t> NextNumber(std::string_view& line) {
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(line.size(), word.size() + 1));
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error != std::errc() || end != word.data() + word.size()) return std::nullopt;
  return number;
}

Case ParseCase(std::string_view line) {
  Case c;
  c.period = NextNumber(line).value();
  c.anchor_day = NextNumber(line).value();
  c.now_ms = NextNumber(line).value();
  c.start = NextNumber(line).value();
  if (line != "-") c.end = NextNumber(line).value();
  return c;
}

bool IsExpected(const PeriodBounds& bounds, const Case& c) {
  if (bounds.start != absl::FromUnixSeconds(c.start)) return false;
  if (bounds.end.has_value() != c.end.has_value()) return false;
  return !c.end.has_value() || *bounds.end == absl::FromUnixSeconds(*c.end);
}

std::string Show(const PeriodBounds& bounds) {
  return absl::StrCat("[", absl::ToUnixSeconds(bounds.start), ", ",
                      bounds.end.has_value() ? absl::StrCat(absl::ToUnixSeconds(*bounds.end)) : "-",
                      ")");
}

void Compare(std::string_view line, const std::string& zone, Outcome& outcome) {
  const Case c = ParseCase(line);
  const absl::StatusOr<QuotaCalendar> calendar = QuotaCalendar::Create(
      static_cast<Period>(c.period), static_cast<std::int32_t>(c.anchor_day), zone);
  REQUIRE_MESSAGE(calendar.ok(), calendar.status().ToString());
  const PeriodBounds bounds = calendar->At(absl::FromUnixMillis(c.now_ms));
  outcome.periods.insert(c.period);
  ++outcome.cases;
  if (IsExpected(bounds, c)) return;
  if (++outcome.differences <= kDifferencesShown) {
    MESSAGE(absl::StrCat(zone, ": ", AbslView(line), " and not ", Show(bounds)));
  }
}

void Read(std::string_view line, std::string& zone, Outcome& outcome) {
  if (line.substr(0, 2) == "Z ") {
    zone = std::string(line.substr(2));
    outcome.zones.insert(zone);
  } else if (line.substr(0, 4) == "END ") {
    line.remove_prefix(4);
    outcome.cases_told = NextNumber(line).value();
    outcome.near = NextNumber(line).value();
  } else {
    Compare(line, zone, outcome);
  }
}

// Runs the oracle and compares as it writes. std::nullopt: it did not end well.
std::optional<Outcome> RunOracle(const std::string& command) {
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return std::nullopt;
  Outcome outcome;
  std::string zone;
  std::array<char, 256> buffer = {};
  while (fgets(buffer.data(), static_cast<int>(buffer.size()), pipe) != nullptr) {
    std::string_view line = buffer.data();
    if (line.ends_with('\n')) line.remove_suffix(1);
    Read(line, zone, outcome);
  }
  if (pclose(pipe) != 0) return std::nullopt;
  return outcome;
}

TEST_CASE("periods are those of an independent program over Python's zoneinfo") {
  const std::string python = ORACLE_PYTHON;
  if (python.empty() || std::system(absl::StrCat(python, " -c 'import zoneinfo'").c_str()) != 0) {
    MESSAGE("skipped: no python3 with zoneinfo");
    return;
  }
  const std::int64_t cases = testing::Scaled(kCases);
  const std::uint32_t seed = std::random_device()();
  MESSAGE(absl::StrCat(cases, " cases, seed ", seed));

  const std::optional<Outcome> outcome =
      RunOracle(absl::StrCat(python, " '", ORACLE_SCRIPT, "' ", cases, " ", seed));
  REQUIRE(outcome.has_value());
  MESSAGE(absl::StrCat("compared ", outcome->cases, " in ", outcome->zones.size(), " zones, ",
                       outcome->near, " near a transition or a month's end: ", outcome->differences,
                       " differences"));
  CHECK(outcome->differences == 0);
  CHECK(outcome->cases >= cases);
  CHECK(outcome->cases == outcome->cases_told);
  CHECK(outcome->near * 2 >= outcome->cases);
  CHECK(static_cast<std::int64_t>(outcome->zones.size()) >= kZonesMin);
  CHECK(outcome->periods.size() == 6);
}

}  // namespace
}  // namespace throttl::internal
