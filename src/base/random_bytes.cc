#include "src/base/random_bytes.h"

#include <sys/random.h>

#include <array>
#include <cerrno>
#include <system_error>

#include "absl/strings/str_cat.h"

#include "src/base/base62.h"
#include "src/base/status_macros.h"
#include "src/base/wipe.h"

namespace throttl::internal {
namespace {

// 4 * 62: the bytes below it fall on each digit equally often.
constexpr std::uint8_t kUnbiasedEnd = 248;

// A fair source refuses 1 byte in 32; needing this many draws of 64 bytes for one more digit has a
// probability of 2^-5120, so only a broken source gets there.
constexpr int kFruitlessDrawsMax = 16;

}  // namespace

absl::Status KernelRandom(std::span<std::uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t filled = getrandom(bytes.data(), bytes.size(), 0);
    if (filled < 0) {
      if (errno == EINTR) continue;
      return absl::InternalError(
          absl::StrCat("getrandom failed: ", std::generic_category().message(errno)));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(filled));
  }
  return absl::OkStatus();
}

absl::Status FillRandom(const RandomBytes& random, std::span<std::uint8_t> bytes) {
  if (!random) return KernelRandom(bytes);
  random(bytes);
  return absl::OkStatus();
}

absl::StatusOr<std::string> RandomBase62(const RandomBytes& random, std::size_t digits) {
  std::string text;
  text.reserve(digits);
  THROTTL_RETURN_IF_ERROR(AppendRandomBase62(random, digits, text));
  return text;
}

absl::Status AppendRandomBase62(const RandomBytes& random, std::size_t digits, std::string& text) {
  const std::size_t size_before = text.size();
  const std::size_t size_after = size_before + digits;
  std::array<std::uint8_t, 64> scratch = {};
  absl::Status status;
  for (int fruitless_draws = 0; text.size() < size_after && status.ok();) {
    status = FillRandom(random, scratch);
    if (!status.ok()) break;
    const std::size_t size_drawn = text.size();
    for (const std::uint8_t byte : scratch) {
      if (text.size() == size_after) break;
      if (byte < kUnbiasedEnd) text.push_back(kBase62Alphabet[byte % kBase62Alphabet.size()]);
    }
    fruitless_draws = text.size() == size_drawn ? fruitless_draws + 1 : 0;
    if (fruitless_draws == kFruitlessDrawsMax) {
      status = absl::InternalError(absl::StrCat("the random source gave no byte below ",
                                                static_cast<int>(kUnbiasedEnd), " in ",
                                                kFruitlessDrawsMax * scratch.size(), " bytes"));
    }
  }
  Wipe(scratch.data(), scratch.size());
  if (!status.ok()) {
    Wipe(text.data() + size_before, text.size() - size_before);
    text.resize(size_before);
  }
  return status;
}

absl::StatusOr<std::uint64_t> RandomUint64(const RandomBytes& random) {
  std::array<std::uint8_t, 8> bytes = {};
  THROTTL_RETURN_IF_ERROR(FillRandom(random, bytes));
  std::uint64_t value = 0;
  for (const std::uint8_t byte : bytes) value = value << 8 | byte;
  return value;
}

}  // namespace throttl::internal
