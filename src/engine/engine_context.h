// What the parts of an engine share: the store, the options, the clock, and the making of ids.
//
// Thread safety: constant after the engine was made; its members are safe from any thread.
//
//   const absl::Time now = context.Now();
#ifndef THROTTL_SRC_ENGINE_ENGINE_CONTEXT_H_
#define THROTTL_SRC_ENGINE_ENGINE_CONTEXT_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/engine.h"
#include "throttl/quota_store.h"

#include "src/base/mutex.h"
#include "src/engine/change_gate.h"
#include "src/key/secret_digest.h"
#include "src/lease/lease_table.h"

namespace throttl::internal {

// How often a change that lost a race with another one is read and tried again.
inline constexpr int kConflictTriesMax = 16;

struct EngineContext {
  std::shared_ptr<QuotaStore> store;
  EngineOptions options;  // `clock` is set; `peppers` are empty, and in the set below
  PepperSet peppers;
  bool uses_system_clock = false;  // no other was given
  std::shared_ptr<LeaseTable> table;
  std::shared_ptr<ChangeGate> change_gate;

  // The store's last failure, for EngineStats.
  struct StoreErrors {
    Mutex mutex = {};
    // Not a Status, whose text threads would share.
    absl::StatusCode code THROTTL_GUARDED_BY(mutex) = absl::StatusCode::kOk;
    std::string message THROTTL_GUARDED_BY(mutex) = {};
  };
  std::shared_ptr<StoreErrors> errors = std::make_shared<StoreErrors>();
  void NoteStoreError(const absl::Status& status) const {
    const MutexLock lock(errors->mutex);
    errors->code = status.code();
    errors->message = std::string(status.message());
  }

  // In whole milliseconds, which is what stores keep.
  absl::Time Now() const;
  // `prefix` and random base62 digits of 130 bits: unique for all practical purposes.
  absl::StatusOr<std::string> NewId(std::string_view prefix) const;

  // A change set of one event, with ids drawn.
  struct EventOf {
    const char* type = nullptr;  // one of event_type
    std::string_view owner_id = {};
    std::string_view subject_id = {};  // of the key or plan
    std::string data = "{}";           // a JSON object
  };
  absl::StatusOr<ChangeSet> NewChange(const EventOf& event, const Caller& caller) const;
  absl::StatusOr<Event> NewEvent(const EventOf& event, const Caller& caller) const;
};

// Reads and changes until no other change came in between: calls `attempt` while it answers
// Aborted, at most kConflictTriesMax times, and returns its last answer.
template <typename Attempt>
auto RetryConflicts(const Attempt& attempt) -> decltype(attempt()) {
  for (int tries = 1;; ++tries) {
    auto answer = attempt();
    if (answer.ok() || tries == kConflictTriesMax) return answer;
    if constexpr (std::is_same_v<decltype(answer), absl::Status>) {
      if (!absl::IsAborted(answer)) return answer;
    } else {
      if (!absl::IsAborted(answer.status())) return answer;
    }
  }
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_ENGINE_ENGINE_CONTEXT_H_
