// A HandleName is what the bits of an opaque pointer of the C ABI say: a kind, a place in a table,
// and which use of that place. The pointer itself points nowhere.
//
// Thread safety: a value.
//
//   const HandleName name = HandleName::Of(engine);
//   if (name.kind() != HandleKind::kEngine) return refused;
#ifndef THROTTL_SRC_CAPI_HANDLE_NAME_H_
#define THROTTL_SRC_CAPI_HANDLE_NAME_H_

#include <cstdint>

namespace throttl::capi {

enum class HandleKind : std::uint8_t { kNone = 0, kEngine = 1, kError = 2 };

class HandleName {
 public:
  static constexpr int kSlotBits = 20;
  static constexpr std::uint64_t kSlotsMax = std::uint64_t{1} << kSlotBits;

  // REQUIRES: slot < kSlotsMax. Uses are told apart modulo 2^40, so that no name comes back soon.
  HandleName(HandleKind kind, std::uint64_t slot, std::uint64_t use)
      : bits_(use << (kSlotBits + kKindBits) | slot << kKindBits |
              static_cast<std::uint64_t>(kind)) {}
  static HandleName Of(const void* pointer) {
    return HandleName(reinterpret_cast<std::uintptr_t>(pointer));
  }

  // kNone: no library of ours made it.
  HandleKind kind() const {
    const std::uint64_t kind = bits_ & ((std::uint64_t{1} << kKindBits) - 1);
    return kind <= 2 ? static_cast<HandleKind>(kind) : HandleKind::kNone;
  }
  std::uint64_t slot() const { return bits_ >> kKindBits & (kSlotsMax - 1); }
  std::uint64_t bits() const { return bits_; }
  // Not NULL.
  template <typename Handle>
  Handle* pointer() const {
    return reinterpret_cast<Handle*>(static_cast<std::uintptr_t>(bits_));
  }

 private:
  static constexpr int kKindBits = 4;
  explicit HandleName(std::uint64_t bits) : bits_(bits) {}
  std::uint64_t bits_;
};
static_assert(sizeof(std::uintptr_t) == sizeof(std::uint64_t));

}  // namespace throttl::capi

#endif  // THROTTL_SRC_CAPI_HANDLE_NAME_H_
