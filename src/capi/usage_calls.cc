// Usage, events and statistics through the C ABI.
#include <utility>
#include <vector>

#include "src/capi/capi_call.h"
#include "src/capi/documents.h"

namespace throttl::capi {
namespace {

absl::StatusOr<std::string> Get(const ManagementCall& call) {
  std::string key_id;
  call.members.String("key_id", key_id);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  const absl::StatusOr<Usage> usage = call.engine.GetUsage(key_id, call.caller);
  if (!usage.ok()) return usage.status();
  return TextOfJson(ToJson(*usage));
}

absl::StatusOr<std::string> List(const ManagementCall& call) {
  KeyQuery query;
  ReadKeyQuery(call.members, query);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  const absl::StatusOr<Page<Usage>> page = call.engine.ListUsage(query, call.caller);
  if (!page.ok()) return page.status();
  Json items = Json::array();
  for (const Usage& usage : page->items) items.push_back(ToJson(usage));
  return TextOfJson({{"items", std::move(items)}, {"next_cursor", page->next_cursor}});
}

absl::StatusOr<std::string> History(const ManagementCall& call) {
  UsageQuery query;
  ReadUsageQuery(call.members, query);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  const absl::StatusOr<std::vector<UsageBucket>> buckets =
      call.engine.UsageHistory(query, call.caller);
  if (!buckets.ok()) return buckets.status();
  Json list = Json::array();
  for (const UsageBucket& bucket : *buckets) list.push_back(ToJson(bucket));
  return TextOfJson(list);
}

absl::StatusOr<std::string> Export(const ManagementCall& call) {
  std::string owner_id;
  int format = static_cast<int>(ExportFormat::kCsv);
  call.members.String("owner_id", owner_id);
  call.members.Choice("format",
                      {{"csv", static_cast<int>(ExportFormat::kCsv)},
                       {"json", static_cast<int>(ExportFormat::kJson)}},
                      format);
  absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  std::string text;
  const auto append = [&text](std::string_view chunk) {
    text.append(chunk);
    return absl::OkStatus();
  };
  status =
      call.engine.ExportUsage(owner_id, static_cast<ExportFormat>(format), append, call.caller);
  if (!status.ok()) return status;
  // JSON is an answer as it is.
  return format == static_cast<int>(ExportFormat::kJson) ? text : TextOfJson(Json(text));
}

absl::StatusOr<std::string> Events(const ManagementCall& call) {
  std::int64_t after_seq = 0;
  std::int32_t count_max = 100;
  call.members.Integer("after_seq", after_seq);
  call.members.Integer("count_max", count_max);
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  const absl::StatusOr<std::vector<Event>> events =
      call.engine.ReadEvents(after_seq, count_max, call.caller);
  if (!events.ok()) return events.status();
  Json list = Json::array();
  for (const Event& event : *events) list.push_back(ToJson(event));
  return TextOfJson(list);
}

absl::StatusOr<std::string> Stats(const ManagementCall& call) {
  const absl::Status status = call.members.Finish();
  if (!status.ok()) return status;
  return TextOfJson(ToJson(call.engine.stats()));
}

}  // namespace
}  // namespace throttl::capi

extern "C" {

THROTTL_DEFINE_CALL(throttl_usage_get, Get)
THROTTL_DEFINE_CALL(throttl_usage_list, List)
THROTTL_DEFINE_CALL(throttl_usage_history, History)
THROTTL_DEFINE_CALL(throttl_usage_export, Export)
THROTTL_DEFINE_CALL(throttl_event_list, Events)
THROTTL_DEFINE_CALL(throttl_stats, Stats)

}  // extern "C"
