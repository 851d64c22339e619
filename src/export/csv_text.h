// CSV texts: any text as one cell of a file of RFC 4180 that no spreadsheet takes for a formula.
//
// Thread safety: pure functions.
//
//   AppendCsvText("=1+1, or so", row);  // "'=1+1, or so" with its quotes
#ifndef THROTTL_SRC_EXPORT_CSV_TEXT_H_
#define THROTTL_SRC_EXPORT_CSV_TEXT_H_

#include <string>
#include <string_view>

namespace throttl::internal {

// Appends `text` to `row` as one cell, in quotes where RFC 4180 or another separator asks for them.
//
// A cell that begins with '=', '+', '-' or '@' (or their full-width forms), also past spaces,
// control characters and quotes, gets an apostrophe before it; so does a text that begins with a
// tab or a line end (https://owasp.org/www-community/attacks/CSV_Injection). A spreadsheet that is
// set to other separators takes a cell for several: after each ';', tab and line end within `text`
// the same holds. U+FFFD stands for NUL and for what is not UTF-8.
void AppendCsvText(std::string_view text, std::string& row);

}  // namespace throttl::internal

#endif  // THROTTL_SRC_EXPORT_CSV_TEXT_H_
