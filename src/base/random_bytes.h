// Random bytes and digits, from the kernel or, in tests, from a function of the host's.
//
// Thread safety: all functions from any thread, if the host's function is; nothing is buffered, so
// a forked child never repeats what its parent drew.
//
//   THROTTL_ASSIGN_OR_RETURN(const std::string id, RandomBase62(options.random, 22));
#ifndef THROTTL_SRC_BASE_RANDOM_BYTES_H_
#define THROTTL_SRC_BASE_RANDOM_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace throttl::internal {

// Fills all of the span. Must not throw. Empty: the kernel's randomness.
using RandomBytes = std::function<void(std::span<std::uint8_t>)>;

// Fills `bytes` with getrandom(2), waiting until the kernel has been seeded. Internal: the kernel
// has no such call or forbids it; the bytes are then not to be used.
absl::Status KernelRandom(std::span<std::uint8_t> bytes);

// Fills `bytes` by `random`, or by KernelRandom where that is empty. Errors: those of KernelRandom.
absl::Status FillRandom(const RandomBytes& random, std::span<std::uint8_t> bytes);

// `digits` base62 digits, each of the 62 equally likely. Internal: as KernelRandom, or `random`
// gives hardly any byte below 248, the only ones that can become a digit without bias.
absl::StatusOr<std::string> RandomBase62(const RandomBytes& random, std::size_t digits);

// Appends such digits to `text`, for secrets: where `text` has the capacity, no other copy of the
// digits is left in memory. After an error `text` is as it was.
absl::Status AppendRandomBase62(const RandomBytes& random, std::size_t digits, std::string& text);

absl::StatusOr<std::uint64_t> RandomUint64(const RandomBytes& random);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_RANDOM_BYTES_H_
