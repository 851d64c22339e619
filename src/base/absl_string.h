// Adapters between std::string_view and absl::string_view, which are two types in Debian's Abseil
// and one in newer ones.
//
// Thread safety: pure functions.
//
//   return absl::NotFoundError(absl::StrCat("no key has the id ", AbslView(id)));
#ifndef THROTTL_SRC_BASE_ABSL_STRING_H_
#define THROTTL_SRC_BASE_ABSL_STRING_H_

#include <string_view>

#include "absl/strings/string_view.h"

namespace throttl::internal {

inline absl::string_view AbslView(std::string_view text) { return {text.data(), text.size()}; }
inline std::string_view StdView(absl::string_view text) { return {text.data(), text.size()}; }

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_ABSL_STRING_H_
