// A UsageExporter streams usage as a CSV file or a JSON array, and holds a chunk and a row of it.
//
// Thread safety: none; one thread at a time.
//
//   THROTTL_ASSIGN_OR_RETURN(auto exporter, UsageExporter::Create({.format = format,
//                                                                  .write = write}));
//   for (const Usage& usage : page) THROTTL_RETURN_IF_ERROR(exporter->Add(usage, plan.name));
//   return exporter->Finish();
#ifndef THROTTL_SRC_EXPORT_USAGE_EXPORTER_H_
#define THROTTL_SRC_EXPORT_USAGE_EXPORTER_H_

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl/usage.h"

namespace throttl::internal {

inline constexpr std::size_t kExportChunkBytesMax = std::size_t{1} << 24;

struct UsageExporterOptions {
  ExportFormat format = ExportFormat::kCsv;
  // Takes the next bytes of the output, which are valid during the call only. Must not throw.
  std::function<absl::Status(std::string_view chunk)> write = {};  // required
  // Every chunk but the last has exactly this many bytes; 1..kExportChunkBytesMax. A chunk may end
  // within a row and within a character.
  std::size_t chunk_bytes = std::size_t{64} * 1024;
};

class UsageExporter {
 public:
  // Writes nothing yet. InvalidArgument: an option is outside of its bounds.
  static absl::StatusOr<std::unique_ptr<UsageExporter>> Create(UsageExporterOptions options);

  // Adds a row, and writes each chunk that is full. An error of `write` is returned as it is, by
  // this call and every later one, and `write` is not called again.
  absl::Status Add(const Usage& usage, std::string_view plan_name);

  // Writes the rest; without any row, the CSV header or an empty array. The output is whole when
  // this returned OK. FailedPrecondition, from Add as well: it was finished before.
  absl::Status Finish();

 private:
  explicit UsageExporter(UsageExporterOptions options);

  absl::Status WriteFullChunks();
  absl::Status Write(std::string_view chunk);

  const UsageExporterOptions options_;
  std::string pending_;  // not written yet; less than a chunk between calls
  bool has_rows_ = false;
  bool finished_ = false;
  absl::Status error_ = absl::OkStatus();  // the first one of options_.write
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_EXPORT_USAGE_EXPORTER_H_
