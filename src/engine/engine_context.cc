#include "src/engine/engine_context.h"

#include <utility>

#include "src/base/random_bytes.h"
#include "src/base/status_macros.h"

namespace throttl::internal {

absl::Time EngineContext::Now() const {
  return absl::FromUnixMillis(absl::ToUnixMillis(options.clock->Read().wall));
}

absl::StatusOr<std::string> EngineContext::NewId(std::string_view prefix) const {
  constexpr std::size_t kDigits = 22;
  THROTTL_ASSIGN_OR_RETURN(const std::string digits, RandomBase62(options.random, kDigits));
  return std::string(prefix) + digits;
}

absl::StatusOr<Event> EngineContext::NewEvent(const EventOf& event, const Caller& caller) const {
  THROTTL_ASSIGN_OR_RETURN(std::string id, NewId("evt_"));
  return Event{.id = std::move(id),
               .type = event.type,
               .at = Now(),
               .owner_id = std::string(event.owner_id),
               .key_id = std::string(event.subject_id),
               .actor = caller.actor,
               .data = event.data};
}

absl::StatusOr<ChangeSet> EngineContext::NewChange(const EventOf& event,
                                                   const Caller& caller) const {
  ChangeSet changes;
  THROTTL_ASSIGN_OR_RETURN(changes.id, NewId("chg_"));
  THROTTL_ASSIGN_OR_RETURN(Event told, NewEvent(event, caller));
  changes.events.push_back(std::move(told));
  return changes;
}

}  // namespace throttl::internal
