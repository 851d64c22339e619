#include "src/capi/engine_table.h"

#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <mutex>
#include <new>
#include <thread>

#include "absl/strings/str_cat.h"

namespace throttl::capi {

std::atomic<bool> calls_need_barrier = true;
std::array<EngineSlot, kEnginesMax> engine_slots;
thread_local ThreadMark* mark_of_thread = nullptr;

namespace {

#if defined(__SANITIZE_THREAD__)
constexpr bool kKnowsMembarrier = false;
#else
constexpr bool kKnowsMembarrier = true;
#endif

// None of this has a destructor that does anything: threads may still end when the library is left.
std::mutex slots_mutex;
std::array<std::uint64_t, kEnginesMax> uses = {};  // of each slot
std::atomic<ThreadMark*> marks = nullptr;          // all that there ever were

long Membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0); }

// In a forked child: the one thread that it has is in fork, and not inside a call.
void ForgetCalls() {
  for (ThreadMark* mark = marks.load(); mark != nullptr; mark = mark->next) {
    mark->inside.store(0);
  }
}

// Once, before the first engine is there.
void Prepare() {
  static const bool kPrepared = [] {
    if (kKnowsMembarrier && Membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0) {
      calls_need_barrier.store(false);
    }
    pthread_atfork([] { slots_mutex.lock(); }, [] { slots_mutex.unlock(); },
                   [] {
                     slots_mutex.unlock();
                     ForgetCalls();
                   });
    return true;
  }();
  static_cast<void>(kPrepared);
}

ThreadMark* TakeMark() {
  for (ThreadMark* mark = marks.load(); mark != nullptr; mark = mark->next) {
    bool free = false;
    if (mark->in_use.compare_exchange_strong(free, true)) return mark;
  }
  auto* const made = new (std::nothrow) ThreadMark;
  if (made == nullptr) return nullptr;
  made->in_use.store(true);
  made->next = marks.load();
  while (!marks.compare_exchange_weak(made->next, made)) {
  }
  return made;
}

// Gives the mark back when its thread ends.
struct MarkHolder {
  ~MarkHolder() {
    if (mark_of_thread != nullptr) mark_of_thread->in_use.store(false);
    mark_of_thread = nullptr;
  }
};

}  // namespace

ThreadMark* MakeMark() noexcept {
  thread_local const MarkHolder kHolder;
  static_cast<void>(kHolder);
  mark_of_thread = TakeMark();
  return mark_of_thread;
}

absl::StatusOr<throttl_engine*> AddEngine(std::unique_ptr<OpenEngine> opened) {
  Prepare();
  const std::lock_guard lock(slots_mutex);
  for (std::uint64_t i = 0; i < kEnginesMax; ++i) {
    EngineSlot& slot = engine_slots[i];
    if (slot.opened.load() != nullptr) continue;
    const HandleName name(HandleKind::kEngine, i, ++uses[i]);
    slot.opened.store(opened.release());
    slot.name.store(name.bits());
    return name.pointer<throttl_engine>();
  }
  return absl::ResourceExhaustedError(
      absl::StrCat(kEnginesMax, " engines are open, and no more may be at one time"));
}

std::unique_ptr<OpenEngine> RemoveEngine(throttl_engine* handle) {
  const HandleName name = HandleName::Of(handle);
  if (name.kind() != HandleKind::kEngine || name.slot() >= kEnginesMax) return nullptr;
  EngineSlot& slot = engine_slots[name.slot()];
  std::uint64_t expected = name.bits();
  if (!slot.name.compare_exchange_strong(expected, 0)) return nullptr;
  if (!calls_need_barrier.load()) Membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
  for (ThreadMark* mark = marks.load(); mark != nullptr; mark = mark->next) {
    while (mark->inside.load() == name.bits()) std::this_thread::yield();
  }
  // From now on another engine may take the place.
  return std::unique_ptr<OpenEngine>(slot.opened.exchange(nullptr));
}

absl::Status NoSuchEngine(const throttl_engine* handle) {
  if (handle == nullptr) return absl::InvalidArgumentError("engine is NULL");
  return absl::InvalidArgumentError("engine is no handle of an engine that is open");
}

}  // namespace throttl::capi
