#include "src/base/text_check.h"

#include <string>

#include <doctest/doctest.h>

namespace throttl::internal {
namespace {

TEST_CASE("IsUtf8 takes the shortest forms up to U+10FFFF") {
  for (const char* text : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf",
                           "\xee\x80\x80", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "Zürich 東京"}) {
    CAPTURE(std::string(text));
    CHECK(IsUtf8(text));
  }
  CHECK(IsUtf8(std::string("a\0b", 3)));
}

TEST_CASE("IsUtf8 refuses overlong forms, surrogates, what is beyond U+10FFFF, and broken texts") {
  for (const char* text : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x9f\xbf",
                           "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
                           "\xf4\x90\x80\x80", "\xf8\x88\x80\x80\x80", "\xfe", "\xff", "\xc3",
                           "\xe2\x82", "\xf0\x9f\x98", "\xc3(", "good\xc3"}) {
    CAPTURE(Quoted(text));
    CHECK_FALSE(IsUtf8(text));
  }
}

TEST_CASE("WithoutInvalidUtf8 puts U+FFFD for what is not UTF-8, and leaves the rest as it is") {
  CHECK(WithoutInvalidUtf8("Zürich 東京 😀") == "Zürich 東京 😀");
  CHECK(WithoutInvalidUtf8(std::string("a\0b", 3)) == std::string("a\0b", 3));
  CHECK(WithoutInvalidUtf8("") == "");
  CHECK(WithoutInvalidUtf8("a\xff\xfe z") == "a\ufffd\ufffd z");
  CHECK(WithoutInvalidUtf8("a\xe2\x82(") == "a\ufffd(");        // broken off by a character
  CHECK(WithoutInvalidUtf8("a\xf0\x9f\x98") == "a\ufffd");      // broken off by the end
  CHECK(WithoutInvalidUtf8("\xc0\x80|") == "\ufffd|");          // overlong
  CHECK(WithoutInvalidUtf8("\xed\xa0\x80|") == "\ufffd|");      // a surrogate
  CHECK(WithoutInvalidUtf8("\xf4\x90\x80\x80|") == "\ufffd|");  // beyond U+10FFFF
}

TEST_CASE("HasControlCharacter finds U+0000..U+001F and U+007F..U+009F, and no other character") {
  for (unsigned c = 0; c < 0x800; ++c) {
    std::string text = "a";
    if (c < 0x80) {
      text += static_cast<char>(c);
    } else {
      text += static_cast<char>(0xc0 | c >> 6);
      text += static_cast<char>(0x80 | (c & 0x3f));
    }
    text += "z";
    CAPTURE(c);
    CHECK(HasControlCharacter(text) == (c < 0x20 || (c >= 0x7f && c <= 0x9f)));
  }
  CHECK_FALSE(HasControlCharacter(""));
  // Their trailing bytes are those of controls.
  CHECK_FALSE(HasControlCharacter("\xe2\x82\x80\xf0\x9f\x98\x80"));
}

TEST_CASE("Quoted escapes all but printable ASCII and cuts after 64 bytes") {
  CHECK(Quoted("free") == "\"free\"");
  CHECK(Quoted("a\"b\\c\n") == "\"a\\\"b\\\\c\\n\"");
  CHECK(Quoted(std::string("\0\x1b", 2)) == "\"\\x00\\x1b\"");
  CHECK(Quoted("\xff") == "\"\\xff\"");
  CHECK(Quoted(std::string(64, '-')) == "\"" + std::string(64, '-') + "\"");
  CHECK(Quoted(std::string(65, '-')) == "\"" + std::string(64, '-') + "...\"");
  CHECK(Quoted(std::string(1'000'000, '-')) == "\"" + std::string(64, '-') + "...\"");
}

TEST_CASE("Quoted shows the first 12 of 40 letters and digits or more, which may be a secret") {
  CHECK(Quoted(std::string(39, 'x')) == "\"" + std::string(39, 'x') + "\"");
  CHECK(Quoted(std::string(40, 'x')) == "\"xxxxxxxxxxxx...\"");
  CHECK(Quoted(std::string(1'000'000, 'x')) == "\"xxxxxxxxxxxx...\"");
  const std::string body = "0123456789AB" + std::string(36, 'z');
  CHECK(Quoted("thr_live_" + body) == "\"thr_live_0123456789AB...\"");
  CHECK(Quoted(body + "+" + body) == "\"0123456789AB...+0123456789AB...\"");
  // Wherever the text is cut.
  for (std::size_t before = 0; before < 70; ++before) {
    CAPTURE(before);
    CHECK(Quoted(std::string(before, '-') + body).find('z') == std::string::npos);
  }
}

}  // namespace
}  // namespace throttl::internal
