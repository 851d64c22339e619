// A settle history is a random life of one counter with several holders: lost replies, repeated,
// late and reordered calls, holders that die (their spending known or lost) and changed limits.
// An omniscient count of what the holders really admitted is the oracle.
//
// Thread safety: a history belongs to one thread.
//
//   const HistoryOutcome outcome = RunSettleHistory(target, seed, "k:1");
//   REQUIRE_MESSAGE(outcome.failure.empty(), outcome.failure);
#ifndef THROTTL_TESTS_SETTLE_SETTLE_HISTORY_H_
#define THROTTL_TESTS_SETTLE_SETTLE_HISTORY_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

#include "throttl/settle.h"

namespace throttl::testing {

// What is tested: a store, or ApplySettle and ApplyRetire between two maps.
struct SettleTarget {
  std::function<absl::StatusOr<SettleReply>(HolderId, absl::Time now, const SettleRow&)> settle;
  std::function<absl::Status(HolderId, LeaseState)> retire;
  std::function<absl::StatusOr<Counter>(const CounterId&)> read;
  std::function<absl::StatusOr<std::vector<Event>>()> events;  // of this history, in order
};

struct HistoryOutcome {
  std::string failure = {};  // what did not hold, with the seed and step; empty: all held
  bool exact = false;        // nothing was lost, so the history ended at exactly the limit
  std::int64_t settles = 0;
  std::int64_t events = 0;
};

// `subject` must be new to the target.
HistoryOutcome RunSettleHistory(const SettleTarget& target, std::uint32_t seed,
                                const std::string& subject);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_SETTLE_SETTLE_HISTORY_H_
