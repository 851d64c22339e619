#include "src/base/checksum.h"

#include <array>
#include <bit>
#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace throttl::internal {

void Checksum::Add(std::int64_t number) {
  std::array<char, sizeof(number)> bytes;
  std::memcpy(bytes.data(), &number, sizeof(number));
  bytes_.append(bytes.data(), bytes.size());
}

void Checksum::Add(std::string_view text) {
  Add(static_cast<std::int64_t>(text.size()));
  bytes_.append(text);
}

void Checksum::Add(std::optional<std::int64_t> number) {
  Add(std::int64_t{number.has_value()});
  Add(number.value_or(0));
}

std::int64_t Checksum::Value() const {
  static_assert(std::endian::native == std::endian::little, "a database moves between machines");
  return std::bit_cast<std::int64_t>(XXH3_64bits(bytes_.data(), bytes_.size()));
}

}  // namespace throttl::internal
