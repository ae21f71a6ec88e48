// Aligned text tables and numbers for people: 1.21 GiB, 12,345, 3.4 %, 1.203 s.
//
// One column may be `elastic`: when the terminal is narrower than the table, its texts are shortened in the middle (the
// ends of a C++ name tell the most). Output that is no terminal is never shortened and never coloured.
// Must not: be used for --json, where numbers are exact.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tools/model/estimator.h"

namespace tidemark {

// What stdout is. Width 0: no limit.
struct TextStyle {
  int width = 0;
  bool colour = false;
};
TextStyle StyleOfStdout();  // honours NO_COLOR, TERM=dumb and COLUMNS

std::string HumanBytes(double bytes);                 // "0 B", "17 B", "1.21 GiB"
std::string HumanCount(uint64_t count);               // "12,345,678"
std::string HumanPercent(double part, double whole);  // "3.4 %", "<0.1 %", "-" when whole is 0
std::string HumanDuration(int64_t ns);                // "812 us", "1.203 s", "2 h 03 min"
// "0.9 .. 1.4 MiB" and "830 .. 1,210"; "" when both ends are equal.
std::string HumanInterval(const Interval& interval, bool bytes);

// Cells on a terminal: code points that are no combining marks. Control characters have no place in a name.
size_t DisplayWidth(std::string_view text);
// Keeps both ends: "std::vector<...>::push_back(int)". `width` >= 8 is obeyed.
std::string ShortenMiddle(std::string_view text, size_t width);
// Names come from foreign files: control characters (also those that turn text round) become '?', so that none reaches
// the terminal; what is no UTF-8 becomes U+FFFD.
std::string Printable(std::string_view text);

class TextTable {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kRight;
    bool elastic = false;  // last column only
  };
  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void AddRow(std::vector<std::string> cells);
  // A line under the last row, in its elastic column only, dimmed.
  void AddNote(std::string text);
  std::string Render(const TextStyle& style) const;

 private:
  struct Row {
    std::vector<std::string> cells;
    bool note = false;
  };
  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

}  // namespace tidemark
