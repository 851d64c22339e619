#include "src/base/fork_registry.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <vector>

#include "src/base/mutex.h"

namespace throttl::internal {
namespace {

struct Registry {
  Mutex mutex;
  std::vector<ForkParticipant*> participants THROTTL_GUARDED_BY(mutex);
};

// Never destroyed: a fork may come after the end of main.
Registry& TheRegistry() {
  static Registry* registry = new Registry;
  return *registry;
}

std::atomic<std::uint64_t> fork_generation = 0;

void Prepare() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Registry& registry = TheRegistry();
  registry.mutex.Lock();
  for (auto it = registry.participants.rbegin(); it != registry.participants.rend(); ++it) {
    (*it)->BeforeFork();
  }
}

void Resume() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  Registry& registry = TheRegistry();
  for (ForkParticipant* participant : registry.participants) participant->AfterFork();
  registry.mutex.Unlock();
}

void ResumeChild() {
  fork_generation.fetch_add(1, std::memory_order_relaxed);
  Resume();
}

// When the library is loaded, and not when it is first used: a fork meanwhile would leave the child
// a half-made static, which it would wait for without end. Fails only without memory.
[[maybe_unused]] const int kInstalled = pthread_atfork(&Prepare, &Resume, &ResumeChild);

}  // namespace

void AddForkParticipant(ForkParticipant* participant) {
  Registry& registry = TheRegistry();
  const MutexLock lock(registry.mutex);
  registry.participants.push_back(participant);
}

void RemoveForkParticipant(ForkParticipant* participant) {
  Registry& registry = TheRegistry();
  const MutexLock lock(registry.mutex);
  registry.participants.erase(
      std::remove(registry.participants.begin(), registry.participants.end(), participant),
      registry.participants.end());
}

std::uint64_t ForkGeneration() { return fork_generation.load(std::memory_order_relaxed); }

}  // namespace throttl::internal
