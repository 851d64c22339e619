#include "src/base/wipe.h"

#include <array>
#include <string>

#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

TEST_CASE("Wipe overwrites so many bytes and no more") {
  std::array<char, 5> bytes = {'a', 'b', 'c', 'd', 'e'};
  Wipe(bytes.data() + 1, 3);
  CHECK(bytes == std::array<char, 5>{'a', 0, 0, 0, 'e'});
}

TEST_CASE("Wipe overwrites the whole capacity of a text, in place, and makes it empty") {
  for (const std::size_t size : {0U, 1U, 15U, 16U, 100U}) {
    CAPTURE(size);
    std::string text(size, 'x');
    text.resize(size / 2);  // the rest stays in the capacity
    const char* const place = text.data();
    const std::size_t capacity = text.capacity();
    Wipe(text);
    CHECK(text.empty());
    CHECK(text.data() == place);
    CHECK(text.capacity() == capacity);
    const volatile char* memory = place;
    for (std::size_t i = 0; i < capacity; ++i) CHECK(memory[i] == 0);
  }
}

}  // namespace
}  // namespace throttl::internal
