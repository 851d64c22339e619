// A SlotRef names one use of a slot of the lease table: it fits no longer once the slot has gone to
// another subject.
//
// Thread safety: a value.
//
//   cached.slot = *table.Begin(target, found.reuses);
#ifndef THROTTL_SRC_LEASE_SLOT_REF_H_
#define THROTTL_SRC_LEASE_SLOT_REF_H_

#include <cstdint>

namespace throttl::internal {

struct SlotRef {
  std::uint32_t slot = 0;
  std::uint64_t claim = 0;  // 0: none
  friend bool operator==(const SlotRef&, const SlotRef&) = default;
};

}  // namespace throttl::internal

#endif  // THROTTL_SRC_LEASE_SLOT_REF_H_
