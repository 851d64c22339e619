// Checks of texts that come from outside, and their form in error messages.
//
// Thread safety: pure functions.
//
//   if (!IsUtf8(name)) return absl::InvalidArgumentError(absl::StrCat("name is ", Quoted(name)));
#ifndef THROTTL_SRC_BASE_TEXT_CHECK_H_
#define THROTTL_SRC_BASE_TEXT_CHECK_H_

#include <string>
#include <string_view>

namespace throttl::internal {

// Whether `text` is well-formed UTF-8: no overlong form, no surrogate, nothing beyond U+10FFFF.
bool IsUtf8(std::string_view text);

// `text` with U+FFFD in place of each sequence that is not UTF-8; well-formed text as it is.
std::string WithoutInvalidUtf8(std::string_view text);

// Whether UTF-8 `text` has a character of U+0000..U+001F or U+007F..U+009F: NUL, tabs and line ends
// are among them.
bool HasControlCharacter(std::string_view text);

// `text` in quotes for a message: its first 64 bytes, "..." where it goes on, and everything but
// printable ASCII escaped. Of 40 letters and digits or more in a row the first 12 are shown, and
// "...": they may be a secret that was given in the wrong place.
std::string Quoted(std::string_view text);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_BASE_TEXT_CHECK_H_
