// Fault points are named places between two steps of the lease table, or of an engine that changes
// or settles it, where a test may kill the process. They are compiled in only where
// THROTTL_FAULT_POINTS is defined, which no build of the library does.
//
// Thread safety: the hook is set before threads start.
//
//   THROTTL_FAULT_POINT("change.closed");
#ifndef THROTTL_SRC_LEASE_FAULT_POINT_H_
#define THROTTL_SRC_LEASE_FAULT_POINT_H_

#ifdef THROTTL_FAULT_POINTS
namespace throttl::internal {
using FaultHook = void (*)(const char* point);
inline FaultHook fault_hook = nullptr;
}  // namespace throttl::internal
#define THROTTL_FAULT_POINT(name)                     \
  do {                                                \
    if (::throttl::internal::fault_hook != nullptr) { \
      ::throttl::internal::fault_hook(name);          \
    }                                                 \
  } while (false)
#else
#define THROTTL_FAULT_POINT(name) static_cast<void>(0)
#endif

#endif  // THROTTL_SRC_LEASE_FAULT_POINT_H_
