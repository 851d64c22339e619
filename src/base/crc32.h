// CRC-32 (IEEE 802.3, as in zlib and gzip), which finds mistyped secrets.
//
// Thread safety: a pure function.
//
//   Crc32("123456789") == 0xcbf43926
#ifndef THROTTL_SRC_BASE_CRC32_H_
#define THROTTL_SRC_BASE_CRC32_H_

#include <cstdint>
#include <string_view>

namespace throttl::internal {

std::uint32_t Crc32(std::string_view text);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_CRC32_H_
