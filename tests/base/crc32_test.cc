#include "src/base/crc32.h"

#include <string>

#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

// From the catalogue of parametrised CRC algorithms (CRC-32/ISO-HDLC), and Python's zlib.
TEST_CASE("Crc32 is the CRC-32 of IEEE 802.3") {
  CHECK(Crc32("123456789") == 0xcbf43926);
  CHECK(Crc32("") == 0);
  CHECK(Crc32("The quick brown fox jumps over the lazy dog") == 0x414fa339);
  CHECK(Crc32(std::string(1, '\0')) == 0xd202ef8d);
}

}  // namespace
}  // namespace throttl::internal
