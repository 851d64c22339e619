#include "src/base/text_check.h"

#include <cstddef>
#include <iterator>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include <utf8.h>

namespace throttl::internal {
namespace {

constexpr std::size_t kQuotedBytesMax = 64;
// More than a key's id can have; the body of a secret has 48, and the first 12 are not secret.
constexpr std::size_t kHiddenRunMin = 40;
constexpr std::size_t kShownOfRun = 12;

// The beginning of `text`, at least as much as is quoted, without what may be a secret.
std::string WithoutSecrets(std::string_view text) {
  std::string shown;
  std::size_t begin = 0;
  while (begin < text.size() && shown.size() <= kQuotedBytesMax) {
    std::size_t end = begin;
    while (end < text.size() && absl::ascii_isalnum(static_cast<unsigned char>(text[end]))) ++end;
    const bool hidden = end - begin >= kHiddenRunMin;
    shown.append(text.substr(begin, hidden ? kShownOfRun : end - begin));
    if (hidden) shown.append("...");
    if (end < text.size()) shown.push_back(text[end]);
    begin = end + 1;
  }
  return shown;
}

}  // namespace

bool IsUtf8(std::string_view text) { return utf8::is_valid(text.begin(), text.end()); }

std::string WithoutInvalidUtf8(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  utf8::replace_invalid(text.begin(), text.end(), std::back_inserter(valid));
  return valid;
}

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
  // Before it is cut: the beginning of a secret would not be known as one.
  const std::string shown = WithoutSecrets(text);
  const bool cut = shown.size() > kQuotedBytesMax;
  return absl::StrCat("\"", absl::CHexEscape(shown.substr(0, kQuotedBytesMax)),
                      cut ? "...\"" : "\"");
}

}  // namespace throttl::internal
