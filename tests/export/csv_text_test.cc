#include "src/export/csv_text.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <rapidcheck.h>

#include "tests/export/csv_parts.h"

namespace throttl::internal {
namespace {

using namespace std::string_view_literals;

std::string Cell(std::string_view text) {
  std::string cell;
  AppendCsvText(text, cell);
  return cell;
}

TEST_CASE("a text that means nothing to CSV or to a spreadsheet is a cell as it is") {
  for (const std::string_view text :
       {""sv, "prod"sv, "key_1.a"sv, "a b"sv, "O'Brien"sv, "'quoted'"sv, "a=b"sv, "1-2"sv,
        "a@b.c"sv, "x+y"sv, "Zürich 東京"sv, "50%"sv}) {
    CAPTURE(text);
    CHECK(Cell(text) == text);
  }
}

TEST_CASE("a cell is appended to the row, and nothing else of the row changes") {
  std::string row = "a,";
  AppendCsvText("=b", row);
  CHECK(row == "a,'=b");
}

TEST_CASE("separators, quotes, line ends and outer spaces put a cell in quotes, doubled within") {
  CHECK(Cell("a,b") == "\"a,b\"");
  CHECK(Cell("a\"b") == "\"a\"\"b\"");
  CHECK(Cell("\"") == "\"\"\"\"");
  CHECK(Cell("a\r\nb") == "\"a\r\nb\"");
  CHECK(Cell("a\nb") == "\"a\nb\"");
  CHECK(Cell("a\rb") == "\"a\rb\"");
  CHECK(Cell("a;b") == "\"a;b\"");
  CHECK(Cell("a\tb") == "\"a\tb\"");
  CHECK(Cell(" a") == "\" a\"");
  CHECK(Cell("a ") == "\"a \"");
}

TEST_CASE("a cell that a spreadsheet would run gets an apostrophe before it") {
  CHECK(Cell("=1+1") == "'=1+1");
  CHECK(Cell("+1") == "'+1");
  CHECK(Cell("-1") == "'-1");
  CHECK(Cell("@SUM(A1)") == "'@SUM(A1)");
  CHECK(Cell("=HYPERLINK(\"http://a.example/?\"&A1,\"b\")") ==
        "\"'=HYPERLINK(\"\"http://a.example/?\"\"&A1,\"\"b\"\")\"");
  CHECK(Cell("＝1") == "'＝1");  // full-width: run in some locales
  CHECK(Cell("＋1") == "'＋1");
  CHECK(Cell("－1") == "'－1");
  CHECK(Cell("＠a") == "'＠a");
  CHECK(Cell("=") == "'=");
}

TEST_CASE("a formula past spaces, control characters and quotes is one") {
  CHECK(Cell(" =1") == "' =1");
  CHECK(Cell(" \"=1\"") == "\"' \"\"=1\"\"\"");
  CHECK(Cell("\x01\x1b=1") == "'\x01\x1b=1");
  CHECK(Cell("\x7f-1") == "'\x7f-1");
}

TEST_CASE("a text that begins with a tab or a line end gets an apostrophe before it") {
  CHECK(Cell("\ta") == "\"'\ta\"");
  CHECK(Cell("\ra") == "\"'\ra\"");
  CHECK(Cell("\na") == "\"'\na\"");
  CHECK(Cell("\t=1") == "\"'\t'=1\"");
}

TEST_CASE("a formula is defused where a spreadsheet with other separators would begin a cell") {
  CHECK(Cell("a;=1") == "\"a;'=1\"");
  CHECK(Cell("a; =1") == "\"a;' =1\"");
  CHECK(Cell("a;\"=1\"") == "\"a;'\"\"=1\"\"\"");
  CHECK(Cell("a\t@b") == "\"a\t'@b\"");
  CHECK(Cell("a\r\n+b") == "\"a\r\n'+b\"");
  CHECK(Cell("=a;=b;c=d") == "\"'=a;'=b;c=d\"");
  CHECK(Cell("a,=b") == "\"a,=b\"");  // whoever splits at commas knows quotes
}

TEST_CASE("U+FFFD stands for NUL and for what is not UTF-8 in a cell") {
  CHECK(Cell("a\0b"sv) ==
        "a\xef\xbf\xbd"
        "b");
  CHECK(Cell("\0\0"sv) == "\xef\xbf\xbd\xef\xbf\xbd");
  CHECK(Cell("a\xff"
             "b") ==
        "a\xef\xbf\xbd"
        "b");
}

TEST_CASE(
    "any text is read back from its cell, but for apostrophes, and only where there is need") {
  CHECK(rc::check("a cell reads back as its text", [] {
    const std::string text = *GenHardText();
    const std::optional<std::vector<CsvRow>> rows = ReadCsv(Cell(text) + "," + Cell(text) + "\r\n");
    RC_ASSERT(rows.has_value());
    RC_ASSERT(rows->size() == 1U);
    RC_ASSERT(rows->front().size() == 2U);
    const std::string& cell = rows->front().front();
    RC_ASSERT(cell == rows->front().back());
    RC_ASSERT(IsDefused(text, cell));
    RC_ASSERT(IsUtf8(cell));
    const bool harmless = text.find_first_of("=+-@\t\r\n") == std::string::npos &&
                          WithoutInvalidUtf8(text).find("\xef\xbc") == std::string::npos;
    RC_ASSERT(!harmless || cell.size() >= text.size());
    if (harmless && IsUtf8(text) && text.find('\0') == std::string::npos) RC_ASSERT(cell == text);
  }));
}

}  // namespace
}  // namespace throttl::internal
