#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include <doctest/doctest.h>

#include "src/base/absl_string.h"
#include "src/base/text_check.h"
#include "src/export/usage_exporter.h"
#include "tests/scale.h"
#include "tests/temp_dir.h"

namespace throttl::internal {
namespace {

constexpr std::int64_t kRows = 20'000;

class UsageMaker {
 public:
  explicit UsageMaker(std::uint32_t seed) : random_(seed) {}

  std::string Text() {
    static constexpr std::string_view kPieces[] = {"=",
                                                   "+",
                                                   "-",
                                                   "@",
                                                   "\t",
                                                   "\r",
                                                   "\n",
                                                   "\r\n",
                                                   ";",
                                                   ",",
                                                   "\"",
                                                   "'",
                                                   " ",
                                                   "\\",
                                                   "a",
                                                   "1",
                                                   "\xef\xbc\x9d",
                                                   "\xef\xbc\xa0",
                                                   "\xe6\x9d\xb1",
                                                   "\x1b",
                                                   "\x7f",
                                                   "\xef\xbb\xbf",
                                                   "\xff",
                                                   "\xe2\x82",
                                                   std::string_view("\0", 1)};
    std::string text;
    for (std::int64_t i = Below(7); i > 0; --i) text += kPieces[Below(std::size(kPieces))];
    return text;
  }

  Usage Make() {
    Usage usage{.key_id = Text(), .key_name = Text(), .owner_id = Text(), .plan_id = Text()};
    usage.quota.used = Below(3'000);
    usage.quota.period = static_cast<Period>(1 + Below(6));
    if (Below(4) != 0) usage.quota.limit = Below(1'000);
    if (Below(4) != 0) usage.quota.resets_at = Time();
    if (Below(4) != 0) usage.last_used_at = Time();
    usage.period_start = Time();
    return usage;
  }

 private:
  std::int64_t Below(std::uint64_t bound) { return static_cast<std::int64_t>(random_() % bound); }
  absl::Time Time() { return absl::FromUnixMillis(Below(4'000'000'000'000)); }

  std::mt19937_64 random_;
};

std::string Number(std::optional<std::int64_t> number) {
  return number.has_value() ? absl::StrCat(*number) : "-";
}

std::string Millis(std::optional<absl::Time> time) {
  return time.has_value() ? absl::StrCat(absl::ToUnixMillis(*time)) : "-";
}

std::string Hex(std::string_view text) {
  return absl::BytesToHexString(AbslView(WithoutInvalidUtf8(text)));
}

// What the oracle is told of a row: fields that hold no derived value.
std::string Told(const Usage& u, std::string_view plan_name) {
  const std::vector<std::string> fields = {
      Hex(u.key_id),          Hex(u.key_name),
      Hex(plan_name),         Hex(u.owner_id),
      Hex(u.plan_id),         absl::StrCat(u.quota.used),
      Number(u.quota.limit),  absl::StrCat(static_cast<int>(u.quota.period)),
      Millis(u.period_start), Millis(u.quota.resets_at),
      Millis(u.last_used_at)};
  return absl::StrCat(absl::StrJoin(fields, ","), "\n");
}

TEST_CASE("Python's csv and json modules read back what was exported, and find nothing to run") {
  const std::string python = ORACLE_PYTHON;
  if (python.empty() || std::system(absl::StrCat(python, " -c 'import csv, json'").c_str()) != 0) {
    MESSAGE("skipped: no python3");
    return;
  }
  const std::int64_t rows = testing::Scaled(kRows);
  const std::uint32_t seed = std::random_device()();
  MESSAGE(absl::StrCat(rows, " rows, seed ", seed));
  const testing::TempDir dir;
  std::ofstream told(dir.File("told"), std::ios::binary);
  const auto open = [&](ExportFormat format, std::ofstream& file) {
    auto exporter = UsageExporter::Create({.format = format, .write = [&](std::string_view chunk) {
                                             file << chunk;
                                             return absl::OkStatus();
                                           }});
    REQUIRE(exporter.ok());
    return *std::move(exporter);
  };
  std::ofstream csv_file(dir.File("csv"), std::ios::binary);
  std::ofstream json_file(dir.File("json"), std::ios::binary);
  const auto csv = open(ExportFormat::kCsv, csv_file);
  const auto json = open(ExportFormat::kJson, json_file);
  UsageMaker maker(seed);
  for (std::int64_t i = 0; i < rows; ++i) {
    const Usage usage = maker.Make();
    const std::string plan_name = maker.Text();
    REQUIRE(csv->Add(usage, plan_name).ok());
    REQUIRE(json->Add(usage, plan_name).ok());
    told << Told(usage, plan_name);
  }
  REQUIRE(csv->Finish().ok());
  REQUIRE(json->Finish().ok());
  csv_file.close(), json_file.close(), told.close();
  CHECK(std::system(absl::StrCat(python, " '", ORACLE_SCRIPT, "' ", dir.File("csv"), " ",
                                 dir.File("json"), " ", dir.File("told"), " ", rows)
                        .c_str()) == 0);
}

}  // namespace
}  // namespace throttl::internal
