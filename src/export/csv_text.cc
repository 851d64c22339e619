#include "src/export/csv_text.h"

#include <algorithm>
#include <array>
#include <cstddef>

#include "src/base/text_check.h"

namespace throttl::internal {
namespace {

constexpr char kApostrophe = '\'';
constexpr std::string_view kReplacement = "\xef\xbf\xbd";  // U+FFFD
constexpr std::array<std::string_view, 8> kFormulaBeginnings = {
    "=", "+", "-", "@", "\xef\xbc\x9d", "\xef\xbc\x8b", "\xef\xbc\x8d", "\xef\xbc\xa0"};

bool IsLineEndOrTab(char c) { return c == '\t' || c == '\n' || c == '\r'; }

// What separates cells or rows for a reader that does not know that commas and quotes do.
bool IsForeignSeparator(char c) { return c == ';' || IsLineEndOrTab(c); }

// What readers are known to drop at the beginning of a cell.
bool IsSkipped(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte <= 0x20 || byte == 0x7f || c == '"';
}

bool BeginsFormula(std::string_view text) {
  return std::any_of(kFormulaBeginnings.begin(), kFormulaBeginnings.end(),
                     [&](std::string_view beginning) { return text.starts_with(beginning); });
}

std::string Defused(std::string_view text) {
  std::string safe;
  safe.reserve(text.size() + 1);
  if (!text.empty() && IsLineEndOrTab(text.front())) safe.push_back(kApostrophe);
  std::size_t cell = safe.size();  // where what may be read as a cell begins
  bool at_beginning = true;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (at_beginning && BeginsFormula(text.substr(i))) safe.insert(cell, 1, kApostrophe);
    at_beginning = at_beginning && IsSkipped(c);
    safe.push_back(c);
    if (IsForeignSeparator(c)) {
      cell = safe.size();
      at_beginning = true;
    }
  }
  return safe;
}

bool NeedsQuotes(std::string_view text) {
  if (text.empty()) return false;
  // Some readers trim a cell that is not in quotes.
  if (IsSkipped(text.front()) || IsSkipped(text.back())) return true;
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return c == ',' || c == '"' || IsForeignSeparator(c); });
}

}  // namespace

void AppendCsvText(std::string_view text, std::string& row) {
  std::string valid = WithoutInvalidUtf8(text);
  for (std::size_t nul = valid.find('\0'); nul != std::string::npos; nul = valid.find('\0', nul)) {
    valid.replace(nul, 1, kReplacement);
  }
  const std::string safe = Defused(valid);
  if (!NeedsQuotes(safe)) {
    row.append(safe);
    return;
  }
  row.push_back('"');
  for (const char c : safe) {
    if (c == '"') row.push_back('"');
    row.push_back(c);
  }
  row.push_back('"');
}

}  // namespace throttl::internal
