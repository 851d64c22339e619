// The fork registry tells objects of the library that the process is about to fork, so that they
// close what a child must not inherit (SQLite handles, lock descriptors) and hold their locks
// across the fork.
//
// Thread safety: all functions from any thread. Add and Remove must not be called while holding a
// lock that a ForkParticipant takes in BeforeFork.
//
//   class Store : public ForkParticipant { Store() { AddForkParticipant(this); } ... };
#ifndef THROTTL_SRC_BASE_FORK_REGISTRY_H_
#define THROTTL_SRC_BASE_FORK_REGISTRY_H_

#include <cstdint>

namespace throttl::internal {

class ForkParticipant {
 public:
  virtual ~ForkParticipant() = default;
  // In the parent, before the fork: waits for the calls under way, closes, and keeps others out.
  virtual void BeforeFork() = 0;
  // In the parent and in the child, after it: lets calls in again.
  virtual void AfterFork() = 0;
};

// BeforeFork is called in the reverse order of Add, AfterFork in the order of Add.
void AddForkParticipant(ForkParticipant* participant);
void RemoveForkParticipant(ForkParticipant* participant);

// How many forks lie between this process and the one that loaded the library: a child has one more
// than its parent. An object that belongs to one process remembers it, which is cheaper than
// getpid().
std::uint64_t ForkGeneration();

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_FORK_REGISTRY_H_
