// The kill checker opens a store after a kill and compares it with the ledger.
//
// Thread safety: one checker at a time, in a process of its own; workers may go on meanwhile.
//
//   StartChild([&] { return CheckAfterKill(path, {.worker = 1, .life = 7}, *ledger); });
#ifndef THROTTL_TESTS_CRASH_KILL_CHECK_H_
#define THROTTL_TESTS_CRASH_KILL_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/crash/kill_ledger.h"

namespace throttl::testing {

struct KilledWorker {
  std::size_t worker = 0;
  std::int64_t life = 0;
};

// Opens the store, settles which of the dead worker's unacknowledged calls happened, and compares
// every key that it changed in that life: settings, secrets, version, events. Counts in the ledger
// what is lost or half made, and reports it. Returns 0 when the store opened and could be read.
int CheckAfterKill(const std::string& path, const KilledWorker& killed, KillLedger& ledger);

// When no worker lives: all keys of all lanes, and that the store holds no others.
int CheckAllKeys(const std::string& path, KillLedger& ledger);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CRASH_KILL_CHECK_H_
