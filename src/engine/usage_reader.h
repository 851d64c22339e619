// A UsageReader says what keys have used: now, from the lease table, and in the past, from the
// store.
//
// Thread safety: all methods from any thread.
//
//   THROTTL_ASSIGN_OR_RETURN(const Usage usage, reader.Get("key_1", caller));
#ifndef THROTTL_SRC_ENGINE_USAGE_READER_H_
#define THROTTL_SRC_ENGINE_USAGE_READER_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl/usage.h"

#include "src/engine/engine_context.h"
#include "src/engine/key_manager.h"
#include "src/engine/plan_manager.h"
#include "src/engine/settler.h"

namespace throttl::internal {

struct UsagePage {
  Page<Usage> usage = {};
  std::vector<std::string> plan_names = {};  // in the order of the items
};

class UsageReader {
 public:
  // All outlive this.
  UsageReader(const EngineContext& context, const PlanManager& plans, const KeyManager& keys,
              Settler& settler)
      : context_(context), plans_(plans), keys_(keys), settler_(settler) {}

  // What Engine's methods of these names (GetUsage, ...) promise.
  absl::StatusOr<Usage> Get(std::string_view key_id, const Caller& caller) const;
  absl::StatusOr<Page<Usage>> List(const KeyQuery& query, const Caller& caller) const;
  absl::StatusOr<std::vector<UsageBucket>> History(const UsageQuery& query,
                                                   const Caller& caller) const;
  // List, with the name of each key's plan for people.
  absl::StatusOr<UsagePage> ListWithPlans(const KeyQuery& query, const Caller& caller) const;

 private:
  using PlansById = std::map<std::string, Plan>;
  absl::StatusOr<PlansById> ReadPlans() const;
  absl::StatusOr<Counter> ReadCounter(const CounterId& id) const;
  absl::StatusOr<Usage> UsageOf(const Key& key, const PlansById& plans) const;

  const EngineContext& context_;
  const PlanManager& plans_;
  const KeyManager& keys_;
  Settler& settler_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_USAGE_READER_H_
