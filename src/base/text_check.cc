#include "src/base/text_check.h"

#include <utf8.h>

#include <cstddef>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "src/base/absl_string.h"

namespace throttl::internal {
namespace {

constexpr std::size_t kQuotedBytesMax = 64;

}  // namespace

bool IsUtf8(std::string_view text) { return utf8::is_valid(text.begin(), text.end()); }

bool HasControlCharacter(std::string_view text) {
  unsigned char before = 0;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) return true;
    // U+0080..U+009F are C2 80 to C2 9F, and in UTF-8 a C2 only ever begins a character.
    if (before == 0xc2 && byte >= 0x80 && byte <= 0x9f) return true;
    before = byte;
  }
  return false;
}

std::string Quoted(std::string_view text) {
  const bool cut = text.size() > kQuotedBytesMax;
  return absl::StrCat("\"", absl::CHexEscape(AbslView(text.substr(0, kQuotedBytesMax))),
                      cut ? "...\"" : "\"");
}

}  // namespace throttl::internal
