#include "src/export/usage_exporter.h"

#include <utility>

#include "absl/strings/str_cat.h"

#include "src/base/status_macros.h"
#include "src/export/usage_row.h"

namespace throttl::internal {

absl::StatusOr<std::unique_ptr<UsageExporter>> UsageExporter::Create(UsageExporterOptions options) {
  if (options.format != ExportFormat::kCsv && options.format != ExportFormat::kJson) {
    return absl::InvalidArgumentError(absl::StrCat("format is ", static_cast<int>(options.format),
                                                   ", 1 (CSV) or 2 (JSON) is required"));
  }
  if (options.write == nullptr) {
    return absl::InvalidArgumentError("write is empty, a function is required");
  }
  if (options.chunk_bytes < 1 || options.chunk_bytes > kExportChunkBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chunk_bytes is ", options.chunk_bytes, ", 1 to ", kExportChunkBytesMax, " is required"));
  }
  return std::unique_ptr<UsageExporter>(new UsageExporter(std::move(options)));
}

UsageExporter::UsageExporter(UsageExporterOptions options)
    : options_(std::move(options)),
      pending_(options_.format == ExportFormat::kCsv ? kUsageCsvHeader : "[") {}

absl::Status UsageExporter::Add(const Usage& usage, std::string_view plan_name) {
  THROTTL_RETURN_IF_ERROR(error_);
  if (finished_) return absl::FailedPreconditionError("the export was finished before");
  if (options_.format == ExportFormat::kCsv) {
    AppendUsageCsv(usage, plan_name, pending_);
  } else {
    pending_.append(has_rows_ ? ",\n" : "\n");
    AppendUsageJson(usage, plan_name, pending_);
  }
  has_rows_ = true;
  return WriteFullChunks();
}

absl::Status UsageExporter::Finish() {
  THROTTL_RETURN_IF_ERROR(error_);
  if (finished_) return absl::FailedPreconditionError("the export was finished before");
  finished_ = true;
  if (options_.format == ExportFormat::kJson) pending_.append(has_rows_ ? "\n]\n" : "]\n");
  THROTTL_RETURN_IF_ERROR(WriteFullChunks());
  if (pending_.empty()) return absl::OkStatus();
  return Write(std::exchange(pending_, {}));
}

absl::Status UsageExporter::WriteFullChunks() {
  std::size_t written = 0;
  for (; pending_.size() - written >= options_.chunk_bytes; written += options_.chunk_bytes) {
    THROTTL_RETURN_IF_ERROR(
        Write(std::string_view(pending_).substr(written, options_.chunk_bytes)));
  }
  pending_.erase(0, written);
  return absl::OkStatus();
}

absl::Status UsageExporter::Write(std::string_view chunk) {
  error_ = options_.write(chunk);
  return error_;
}

}  // namespace throttl::internal
