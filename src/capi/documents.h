// The documents of the C ABI: C++ structs from and to JSON, in snake_case.
//
// Read... takes what an object says into a struct, and leaves what it does not say as it is. Errors
// are InvalidArgument, and name the member by its path. Bounds are the engine's to check.
//
// Thread safety: pure functions.
//
//   absl::Status status = ReadPlan(object, "", plan);
//   std::string text = ToJson(plan).dump();
#ifndef THROTTL_SRC_CAPI_DOCUMENTS_H_
#define THROTTL_SRC_CAPI_DOCUMENTS_H_

#include <string>

#include "absl/status/status.h"

#include "throttl/engine.h"
#include "throttl/http.h"

#include "src/capi/object_reader.h"

namespace throttl::capi {

// "2026-01-31T23:59:00Z"; null for std::nullopt.
Json TimeToJson(const std::optional<absl::Time>& time);

void ReadCaller(ObjectReader& reader, Caller& caller);
void ReadCarryOver(ObjectReader& reader, CarryOver& carry_over);
void ReadKeyQuery(ObjectReader& reader, KeyQuery& query);
void ReadUsageQuery(ObjectReader& reader, UsageQuery& query);
// The settings of a key, without its id.
void ReadKeySettings(ObjectReader& reader, Key& key);
// Without the version.
void ReadPlan(ObjectReader& reader, Plan& plan);

struct OpenOptions {
  EngineOptions engine = {};
  std::shared_ptr<ManualClock> clock = nullptr;  // if one was asked for; also in `engine`
};
absl::StatusOr<OpenOptions> ReadOpenOptions(const Json& object);
// Borrows texts of `object`.
absl::StatusOr<HttpOptions> ReadHttpOptions(const Json& object, std::string& realm,
                                            std::string& scope);

Json ToJson(const SecretInfo& secret);
Json ToJson(const QuotaState& quota);
Json ToJson(const ExplainedLimit& limit);
Json ToJson(const Quota& quota);
Json ToJson(const RateLimit& limit);
Json ToJson(const Plan& plan);
Json ToJson(const Key& key);
// What ReadKeySettings reads.
Json SettingsToJson(const Key& key);
Json ToJson(const Usage& usage);
Json ToJson(const UsageBucket& bucket);
Json ToJson(const Event& event);
Json ToJson(const Explanation& explanation);
Json ToJson(const EngineStats& stats);
Json ToJson(const ImportReport& report);

}  // namespace throttl::capi

#endif  // THROTTL_SRC_CAPI_DOCUMENTS_H_
