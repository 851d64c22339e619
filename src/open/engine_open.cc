#include <utility>

#include "throttl/engine.h"

#include "src/base/status_macros.h"
#include "src/open/store_url.h"

namespace throttl {

absl::StatusOr<std::unique_ptr<Engine>> Engine::Open(std::string_view url, EngineOptions options) {
  THROTTL_ASSIGN_OR_RETURN(const internal::StoreUrl where, internal::ParseStoreUrl(url));
  if (const auto* memory = std::get_if<MemoryStoreOptions>(&where)) {
    return Create(MakeMemoryStore(*memory), std::move(options));
  }
  THROTTL_ASSIGN_OR_RETURN(std::shared_ptr<QuotaStore> store,
                           OpenSqliteStore(std::get<SqliteStoreOptions>(where)));
  return Create(std::move(store), std::move(options));
}

}  // namespace throttl
