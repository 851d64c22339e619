#include "src/base/crc32.h"

#include <zlib.h>

namespace throttl::internal {

std::uint32_t Crc32(std::string_view text) {
  const auto* bytes = reinterpret_cast<const Bytef*>(text.data());
  return static_cast<std::uint32_t>(crc32_z(0, bytes, text.size()));
}

}  // namespace throttl::internal
