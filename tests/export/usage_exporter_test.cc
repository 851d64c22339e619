#include "src/export/usage_exporter.h"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "src/export/usage_row.h"

namespace throttl::internal {
namespace {

using Chunks = std::vector<std::string>;

Usage Row(int number) {
  return {.key_id = absl::StrCat("key_", number),
          .key_name = absl::StrCat("=name ", number),
          .owner_id = "acme",
          .plan_id = "free",
          .quota = {.limit = 1'000, .used = number, .period = Period::kMonth}};
}

std::unique_ptr<UsageExporter> Exporter(UsageExporterOptions options) {
  auto exporter = UsageExporter::Create(std::move(options));
  REQUIRE_MESSAGE(exporter.ok(), exporter.status().ToString());
  return *std::move(exporter);
}

Chunks Export(ExportFormat format, int rows, std::size_t chunk_bytes = kExportChunkBytesMax) {
  Chunks chunks;
  const auto exporter = Exporter({.format = format,
                                  .write =
                                      [&](std::string_view chunk) {
                                        chunks.emplace_back(chunk);
                                        return absl::OkStatus();
                                      },
                                  .chunk_bytes = chunk_bytes});
  for (int i = 0; i < rows; ++i) CHECK(exporter->Add(Row(i), "Free").ok());
  CHECK(exporter->Finish().ok());
  return chunks;
}

std::string Joined(const Chunks& chunks) {
  std::string all;
  for (const std::string& chunk : chunks) all += chunk;
  return all;
}

TEST_CASE("CSV is the header and a line for each row") {
  CHECK(Joined(Export(ExportFormat::kCsv, 2)) ==
        "Key ID,Key Name,Plan,Current Usage,Monthly Quota,Percent Used,"
        "Owner ID,Plan ID,Period,Period Start,Resets At,Remaining,Last Used At\r\n"
        "key_0,'=name 0,Free,0,1000,0%,acme,free,month,1970-01-01T00:00:00Z,,1000,\r\n"
        "key_1,'=name 1,Free,1,1000,0%,acme,free,month,1970-01-01T00:00:00Z,,999,\r\n");
}

TEST_CASE("JSON is an array with an object on each line") {
  const std::string text = Joined(Export(ExportFormat::kJson, 2));
  std::string first, second;
  AppendUsageJson(Row(0), "Free", first);
  AppendUsageJson(Row(1), "Free", second);
  CHECK(text == "[\n" + first + ",\n" + second + "\n]\n");
  CHECK(nlohmann::json::parse(text).size() == 2);
}

TEST_CASE("without any row there is the CSV header, or an empty array") {
  CHECK(Joined(Export(ExportFormat::kCsv, 0)) == kUsageCsvHeader);
  CHECK(Joined(Export(ExportFormat::kJson, 0)) == "[]\n");
}

TEST_CASE("every chunk but the last has exactly chunk_bytes bytes, whatever it cuts") {
  for (const ExportFormat format : {ExportFormat::kCsv, ExportFormat::kJson}) {
    const std::string whole = Joined(Export(format, 20));
    for (const std::size_t bytes : {std::size_t{1}, std::size_t{7}, std::size_t{100},
                                    std::size_t{1'000}, whole.size() - 1, whole.size()}) {
      CAPTURE(bytes);
      const Chunks chunks = Export(format, 20, bytes);
      CHECK(Joined(chunks) == whole);
      REQUIRE(chunks.size() == (whole.size() + bytes - 1) / bytes);
      CHECK(std::all_of(chunks.begin(), chunks.end() - 1,
                        [&](const std::string& chunk) { return chunk.size() == bytes; }));
      CHECK(!chunks.back().empty());
    }
  }
}

TEST_CASE("a chunk is written when it is full, not at the end, and nothing is written before") {
  std::size_t written = 0;
  const auto exporter = Exporter({.format = ExportFormat::kJson,
                                  .write =
                                      [&](std::string_view chunk) {
                                        written += chunk.size();
                                        return absl::OkStatus();
                                      },
                                  .chunk_bytes = 64});
  CHECK(written == 0);
  std::string all = "[";
  for (int i = 0; i < 100; ++i) {
    all += i == 0 ? "\n" : ",\n";
    AppendUsageJson(Row(i), "Free", all);
    REQUIRE(exporter->Add(Row(i), "Free").ok());
    CHECK(written == all.size() / 64 * 64);
  }
}

TEST_CASE("a row that is longer than a chunk is written in several") {
  Chunks chunks;
  const auto exporter = Exporter({.write =
                                      [&](std::string_view chunk) {
                                        chunks.emplace_back(chunk);
                                        return absl::OkStatus();
                                      },
                                  .chunk_bytes = 1'000});
  Usage usage = Row(0);
  usage.key_name.assign(10'000, 'x');
  CHECK(exporter->Add(usage, "Free").ok());
  CHECK(chunks.size() == 10);
  CHECK(exporter->Finish().ok());
  CHECK(Joined(chunks).find(usage.key_name) != std::string::npos);
}

TEST_CASE("the first error of write ends the export, and is what every later call returns") {
  for (const ExportFormat format : {ExportFormat::kCsv, ExportFormat::kJson}) {
    for (const int failing : {1, 2, 5}) {
      CAPTURE(failing);
      int calls = 0;
      const absl::Status error = absl::UnavailableError("the peer went away");
      const auto exporter = Exporter(
          {.format = format,
           .write = [&](std::string_view) { return ++calls == failing ? error : absl::OkStatus(); },
           .chunk_bytes = 16});
      absl::Status status = absl::OkStatus();
      for (int i = 0; i < 10 && status.ok(); ++i) status = exporter->Add(Row(i), "Free");
      CHECK(status == error);
      CHECK(calls == failing);
      CHECK(exporter->Add(Row(0), "Free") == error);
      CHECK(exporter->Finish() == error);
      CHECK(exporter->Finish() == error);
      CHECK(calls == failing);
    }
  }
}

TEST_CASE("an error of write for the last chunk is returned by Finish") {
  int calls = 0;
  const auto exporter = Exporter({.write = [&](std::string_view) {
    ++calls;
    return absl::ResourceExhaustedError("disk full");
  }});
  CHECK(exporter->Add(Row(0), "Free").ok());
  CHECK(exporter->Finish() == absl::ResourceExhaustedError("disk full"));
  CHECK(exporter->Finish() == absl::ResourceExhaustedError("disk full"));
  CHECK(calls == 1);
}

TEST_CASE("after Finish nothing can be added, and it cannot be finished again") {
  std::string text;
  const auto exporter = Exporter({.write = [&](std::string_view chunk) {
    text += chunk;
    return absl::OkStatus();
  }});
  CHECK(exporter->Finish().ok());
  CHECK(exporter->Add(Row(0), "Free").code() == absl::StatusCode::kFailedPrecondition);
  CHECK(exporter->Finish().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(text == kUsageCsvHeader);
}

TEST_CASE("an option outside of its bounds is refused, and the message gives value and bound") {
  const auto fault = [](UsageExporterOptions options) {
    const auto exporter = UsageExporter::Create(std::move(options));
    CHECK(exporter.status().code() == absl::StatusCode::kInvalidArgument);
    return std::string(exporter.status().message());
  };
  const auto ignore = [](std::string_view) { return absl::OkStatus(); };
  CHECK(fault({.format = static_cast<ExportFormat>(0), .write = ignore}) ==
        "format is 0, 1 (CSV) or 2 (JSON) is required");
  CHECK(fault({.format = static_cast<ExportFormat>(3), .write = ignore}) ==
        "format is 3, 1 (CSV) or 2 (JSON) is required");
  CHECK(fault({}) == "write is empty, a function is required");
  CHECK(fault({.write = ignore, .chunk_bytes = 0}) ==
        "chunk_bytes is 0, 1 to 16777216 is required");
  CHECK(fault({.write = ignore, .chunk_bytes = kExportChunkBytesMax + 1}) ==
        "chunk_bytes is 16777217, 1 to 16777216 is required");
}

}  // namespace
}  // namespace throttl::internal
