#include "src/engine/table_registry.h"

#include <atomic>
#include <map>
#include <utility>

#include "src/base/fork_registry.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"

namespace throttl::internal {
namespace {

// A table of a store that is gone expires with the last engine on it.
struct Registry {
  const std::uint64_t fork_generation = ForkGeneration();
  Mutex mutex;
  std::map<const QuotaStore*, std::weak_ptr<LeaseTable>> tables THROTTL_GUARDED_BY(mutex);
};

std::atomic<Registry*> registry_in_use = nullptr;

// Never destroyed: engines may outlive statics. A forked child has one of its own: the tables are
// its parent's, and so may the holder of the mutex be, a thread that the child does not have.
Registry& TheRegistry() {
  Registry* registry = registry_in_use.load();
  while (registry == nullptr || registry->fork_generation != ForkGeneration()) {
    auto made = std::make_unique<Registry>();
    if (registry_in_use.compare_exchange_strong(registry, made.get())) return *made.release();
  }
  return *registry;
}

}  // namespace

absl::StatusOr<std::shared_ptr<LeaseTable>> TableOf(const std::shared_ptr<QuotaStore>& store,
                                                    const EngineOptions& engine_options) {
  const StoreInfo& info = store->info();
  LeaseTableOptions options{.path = info.lease_path,
                            .store_id = info.store_id,
                            .slots_max = engine_options.active_subjects_max,
                            .rates_max = engine_options.rate_slots_max};
  if (!info.lease_path.empty()) {
    THROTTL_ASSIGN_OR_RETURN(std::unique_ptr<LeaseTable> opened,
                             LeaseTable::Open(std::move(options)));
    return std::shared_ptr<LeaseTable>(std::move(opened));
  }
  Registry& registry = TheRegistry();
  const MutexLock lock(registry.mutex);
  std::erase_if(registry.tables, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<LeaseTable> table = registry.tables[store.get()].lock();
  if (table == nullptr) {
    THROTTL_ASSIGN_OR_RETURN(table, LeaseTable::Open(std::move(options)));
    registry.tables[store.get()] = table;
  }
  return table;
}

}  // namespace throttl::internal
