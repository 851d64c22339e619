// The engines that are open through the C ABI, by their handles; and which calls are inside of
// them.
//
// A call costs two plain stores to a line of its thread: it notes the handle, and then looks
// whether the engine is still open. Whoever closes takes the engine out of the table, has the
// kernel run a barrier on every thread of the process (membarrier), and waits until no thread notes
// the handle. Where the kernel has no such barrier, calls have one of their own.
//
// Thread safety: all of it from any thread; after fork also in the child, without the calls of the
// threads that it does not have.
//
//   const EngineCall call(handle);
//   if (call.engine() == nullptr) return refused;
#ifndef THROTTL_SRC_CAPI_ENGINE_TABLE_H_
#define THROTTL_SRC_CAPI_ENGINE_TABLE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#include "throttl.h"
#include "throttl/engine.h"

#include "src/capi/handle_name.h"

namespace throttl::capi {

inline constexpr std::uint64_t kEnginesMax = 1024;  // open at one time

struct OpenEngine {
  std::unique_ptr<Engine> engine;
  std::shared_ptr<ManualClock> clock;  // nullptr: the system's
};

// ResourceExhausted: kEnginesMax are open.
absl::StatusOr<throttl_engine*> AddEngine(std::unique_ptr<OpenEngine> opened);

// Takes it out, and waits for the calls inside of it. nullptr: there is none of that handle, or
// another thread closes it.
std::unique_ptr<OpenEngine> RemoveEngine(throttl_engine* handle);

absl::Status NoSuchEngine(const throttl_engine* handle);

// What a thread is inside of.
struct alignas(64) ThreadMark {
  std::atomic<std::uint64_t> inside = 0;  // the bits of a handle; 0: none
  std::atomic<bool> in_use = false;
  ThreadMark* next = nullptr;
};

// This thread's; nullptr before its first call. Of the kind that needs no look-up: it takes 8 bytes
// of what a process keeps for libraries that it loads late.
extern thread_local ThreadMark* mark_of_thread __attribute__((tls_model("initial-exec")));
// Makes it; when the thread ends, it is given to another one. nullptr: memory has run out.
ThreadMark* MakeMark() noexcept;

struct EngineSlot {
  std::atomic<std::uint64_t> name = 0;  // the bits of the handle; 0: free, or closing
  std::atomic<OpenEngine*> opened = nullptr;
};
extern std::array<EngineSlot, kEnginesMax> engine_slots;
// Whether a call must have a barrier of its own.
extern std::atomic<bool> calls_need_barrier;

// Keeps an engine open while it lives. One of a thread at a time: the engine calls nobody back.
class EngineCall {
 public:
  explicit EngineCall(const throttl_engine* handle) noexcept {
    const HandleName name = HandleName::Of(handle);
    if (name.kind() != HandleKind::kEngine || name.slot() >= kEnginesMax) return;
    mark_ = mark_of_thread;
    if (mark_ == nullptr) mark_ = MakeMark();
    if (mark_ == nullptr) return;
    mark_->inside.store(name.bits(), std::memory_order_relaxed);
    if (calls_need_barrier.load(std::memory_order_relaxed)) {
      std::atomic_thread_fence(std::memory_order_seq_cst);
    } else {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    }
    const EngineSlot& slot = engine_slots[name.slot()];
    if (slot.name.load(std::memory_order_acquire) != name.bits()) return;
    opened_ = slot.opened.load(std::memory_order_acquire);
  }
  ~EngineCall() {
    if (mark_ != nullptr) mark_->inside.store(0, std::memory_order_release);
  }
  EngineCall(const EngineCall&) = delete;
  EngineCall& operator=(const EngineCall&) = delete;

  // nullptr: the handle is of no engine that is open.
  Engine* engine() const { return opened_ == nullptr ? nullptr : opened_->engine.get(); }
  ManualClock* clock() const { return opened_ == nullptr ? nullptr : opened_->clock.get(); }

 private:
  ThreadMark* mark_ = nullptr;
  OpenEngine* opened_ = nullptr;
};

}  // namespace throttl::capi

#endif  // THROTTL_SRC_CAPI_ENGINE_TABLE_H_
