// A KeyImporter takes over keys of other systems, known by the SHA-256 of their secrets.
//
// Thread safety: as Engine.
//
//   THROTTL_ASSIGN_OR_RETURN(const ImportReport report, importer.Import(keys, caller));
#ifndef THROTTL_SRC_ENGINE_KEY_IMPORTER_H_
#define THROTTL_SRC_ENGINE_KEY_IMPORTER_H_

#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "src/engine/engine_context.h"
#include "src/engine/plan_manager.h"

namespace throttl::internal {

class KeyImporter {
 public:
  // Both outlive this.
  KeyImporter(const EngineContext& context, const PlanManager& plans)
      : context_(context), plans_(plans) {}

  // What Engine::ImportKeys promises. Every key is checked before the first one is written; then
  // they are written kStoreBatchMax at a time, each batch whole or not at all.
  absl::StatusOr<ImportReport> Import(std::span<const ImportedKey> keys,
                                      const Caller& caller) const;

 private:
  absl::Status Check(std::span<const ImportedKey> keys, const Caller& caller) const;
  absl::StatusOr<ImportReport> TryBatch(std::span<const ImportedKey> keys,
                                        const Caller& caller) const;
  absl::Status AddToChange(const ImportedKey& imported, const Caller& caller,
                           ChangeSet& changes) const;
  absl::Status WriteUsage(const ImportedKey& imported) const;
  absl::StatusOr<bool> HasDigest(const KeyRecord& record, const Sha256Digest& digest) const;

  const EngineContext& context_;
  const PlanManager& plans_;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_KEY_IMPORTER_H_
