// Parts of the export tests: a reader of RFC 4180, and texts that are hard on writers of CSV.
//
// Thread safety: pure functions.
//
//   const auto rows = ReadCsv(output);  REQUIRE(rows.has_value());
#ifndef THROTTL_TESTS_EXPORT_CSV_PARTS_H_
#define THROTTL_TESTS_EXPORT_CSV_PARTS_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <rapidcheck.h>

#include "src/base/text_check.h"

namespace throttl::internal {

using CsvRow = std::vector<std::string>;

// Takes one cell off the front of `text`; std::nullopt when it is not one of RFC 4180.
inline std::optional<std::string> TakeCell(std::string_view& text) {
  std::string cell;
  if (!text.starts_with('"')) {
    const std::string_view bare = text.substr(0, text.find_first_of(",\r\n"));
    if (bare.find('"') != std::string_view::npos) return std::nullopt;
    text.remove_prefix(bare.size());
    return std::string(bare);
  }
  text.remove_prefix(1);
  while (!text.empty()) {
    const bool quote = text.front() == '"';
    if (quote && !text.substr(1).starts_with('"')) {
      text.remove_prefix(1);
      return cell;
    }
    cell.push_back(text.front());
    text.remove_prefix(quote ? 2 : 1);
  }
  return std::nullopt;
}

// The rows of a file in which every row ends in CR LF; std::nullopt when it breaks a rule.
inline std::optional<std::vector<CsvRow>> ReadCsv(std::string_view text) {
  std::vector<CsvRow> rows;
  while (!text.empty()) {
    CsvRow& row = rows.emplace_back();
    do {
      if (!row.empty()) text.remove_prefix(1);
      const std::optional<std::string> cell = TakeCell(text);
      if (!cell.has_value()) return std::nullopt;
      row.push_back(*cell);
    } while (text.starts_with(','));
    if (!text.starts_with("\r\n")) return std::nullopt;
    text.remove_prefix(2);
  }
  return rows;
}

// Whether `cell` is `text`, as CSV holds it, but for apostrophes put in.
inline bool IsDefused(std::string_view text, std::string_view cell) {
  std::string wanted = WithoutInvalidUtf8(text);
  for (std::size_t nul = 0; (nul = wanted.find('\0', nul)) != std::string::npos;) {
    wanted.replace(nul, 1, "\xef\xbf\xbd");
  }
  std::size_t matched = 0;
  for (const char c : cell) {
    if (matched < wanted.size() && wanted[matched] == c) {
      ++matched;
    } else if (c != '\'') {
      return false;
    }
  }
  return matched == wanted.size();
}

// `text` with one U+FFFD for each row of them: how many stand for a broken sequence may differ.
inline std::string WithOneReplacement(std::string text) {
  const std::string mark = "\xef\xbf\xbd";
  for (std::size_t at = 0; (at = text.find(mark + mark, at)) != std::string::npos;) {
    text.erase(at, mark.size());
  }
  return text;
}

// Whether `shown` is `text` with U+FFFD in place of what is not UTF-8.
inline bool IsReplaced(std::string_view text, const std::string& shown) {
  if (IsUtf8(text)) return shown == text;
  return WithOneReplacement(WithoutInvalidUtf8(text)) == WithOneReplacement(shown);
}

// Texts of pieces that mean something to a reader of CSV or JSON, among any bytes.
inline rc::Gen<std::string> GenHardText() {
  const auto piece = rc::gen::weightedOneOf<std::string>(
      {{6, rc::gen::element<std::string>("=", "+", "-", "@", "\t", "\r", "\n", "\r\n", ";", ",",
                                         "\"", "\"\"", "'", " ", "\\", std::string(1, '\0'), "\x1b",
                                         "\x7f", "\xef\xbc\x9d", "\xef\xbc\xa0", "\xef\xbb\xbf")},
       {3, rc::gen::element<std::string>("a", "1", "東京", "=1+1", "@SUM(A1)", "\xff", "\xe2\x82",
                                         "\xed\xa0\x80", "\xc3\xa9")},
       {1, rc::gen::arbitrary<std::string>()}});
  return rc::gen::map(rc::gen::container<std::vector<std::string>>(piece),
                      [](const std::vector<std::string>& pieces) {
                        std::string text;
                        for (const std::string& p : pieces) text += p;
                        return text;
                      });
}

}  // namespace throttl::internal

#endif  // THROTTL_TESTS_EXPORT_CSV_PARTS_H_
