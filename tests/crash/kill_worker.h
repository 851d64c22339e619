// A kill worker is a process that changes keys, as fast as it can, until it is killed.
//
// Thread safety: RunKillWorker is called once, in a process of its own.
//
//   StartChild([&] { return RunKillWorker({.path = path, .worker = 0, .life = 7}, *ledger); });
#ifndef THROTTL_TESTS_CRASH_KILL_WORKER_H_
#define THROTTL_TESTS_CRASH_KILL_WORKER_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/crash/kill_ledger.h"

namespace throttl::testing {

struct KillWorkerOptions {
  std::string path = {};
  bool power = false;      // durability=power
  std::size_t worker = 0;  // below kWorkersMax; its lanes are kLanesOfWorker from there
  std::int64_t life = 0;
  std::uint64_t seed = 0;
};

// Opens the store and changes keys of its lanes, each in a thread. Returns only when a call failed,
// which it reports.
int RunKillWorker(const KillWorkerOptions& options, KillLedger& ledger);

}  // namespace throttl::testing

#endif  // THROTTL_TESTS_CRASH_KILL_WORKER_H_
