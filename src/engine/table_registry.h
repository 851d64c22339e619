// The lease table of a store: engines of one process that share a store without a lease file share
// its table as well.
//
// Thread safety: from any thread.
//
//   THROTTL_ASSIGN_OR_RETURN(const auto table, TableOf(store, options));
#ifndef THROTTL_SRC_ENGINE_TABLE_REGISTRY_H_
#define THROTTL_SRC_ENGINE_TABLE_REGISTRY_H_

#include <memory>

#include "absl/status/statusor.h"

#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "src/lease/lease_table.h"

namespace throttl::internal {

// Opens it with the sizes that `options` gives, or finds the one that another engine has. Errors:
// those of LeaseTable::Open.
absl::StatusOr<std::shared_ptr<LeaseTable>> TableOf(const std::shared_ptr<QuotaStore>& store,
                                                    const EngineOptions& options);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_TABLE_REGISTRY_H_
