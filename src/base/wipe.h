// Wipe overwrites memory that held a secret, in a way that the compiler must not leave out.
//
// Thread safety: pure functions; the memory is the caller's alone.
//
//   Wipe(scratch.data(), scratch.size());
#ifndef THROTTL_SRC_BASE_WIPE_H_
#define THROTTL_SRC_BASE_WIPE_H_

#include <string.h>

#include <cstddef>
#include <string>

namespace throttl::internal {

inline void Wipe(void* data, std::size_t size) { explicit_bzero(data, size); }

// Overwrites the whole capacity of `text`, so also what an earlier and longer content or a move
// left in it, and makes it empty. Allocates nothing.
inline void Wipe(std::string& text) noexcept {
  text.resize(text.capacity());  // what lies between size and capacity may only be written this way
  Wipe(text.data(), text.size());
  text.clear();
}

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_WIPE_H_
