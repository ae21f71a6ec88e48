// See text_table.h.
#include "tools/text_table.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tools/utf8.h"

namespace tidemark {
namespace {

constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
constexpr const char* kBold = "\x1b[1m";
constexpr const char* kDim = "\x1b[2m";
constexpr const char* kPlain = "\x1b[0m";
constexpr size_t kLeastElasticWidth = 24;

int UnitOf(double bytes) {
  int unit = 0;
  // 1023.95 would print as "1024.0": go on to the next unit.
  while (bytes >= 1023.95 && unit + 1 < static_cast<int>(std::size(kUnits))) {
    bytes /= 1024;
    ++unit;
  }
  return unit;
}

std::string InUnit(double bytes, int unit) {
  const double value = bytes / std::pow(1024.0, unit);
  if (unit == 0) return fmt::format("{:.0f}", value);
  return value < 9.995 ? fmt::format("{:.2f}", value) : fmt::format("{:.1f}", value);
}

// Characters that do something to the line instead of standing in it: C0 and C1 (terminals take U+009B for the
// beginning of a command), line ends, and what turns the direction of writing round.
bool IsControl(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x61c || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

bool StartsCell(char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }

// The first (or last) `count` cells of a text.
std::string_view FirstCells(std::string_view text, size_t count) {
  size_t end = 0;
  for (; end < text.size(); ++end) {
    if (StartsCell(text[end]) && count-- == 0) break;
  }
  return text.substr(0, end);
}
std::string_view LastCells(std::string_view text, size_t count) {
  size_t begin = text.size();
  while (begin > 0 && count > 0) {
    if (StartsCell(text[--begin])) --count;
  }
  return text.substr(begin);
}

}  // namespace

TextStyle StyleOfStdout() {
  TextStyle style;
  if (!isatty(STDOUT_FILENO)) return style;
  const char* no_colour = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  style.colour = (no_colour == nullptr || *no_colour == '\0') && term != nullptr && std::string_view(term) != "dumb";
  winsize size{};
  const char* columns = std::getenv("COLUMNS");
  if (columns != nullptr && std::atoi(columns) > 0) {
    style.width = std::atoi(columns);
  } else if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    style.width = size.ws_col;
  } else {
    style.width = 80;
  }
  return style;
}

std::string HumanBytes(double bytes) {
  const int unit = UnitOf(bytes);
  return fmt::format("{} {}", InUnit(bytes, unit), kUnits[unit]);
}

std::string HumanCount(uint64_t count) {
  std::string digits = std::to_string(count);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(at, ",");
  return digits;
}

std::string HumanPercent(double part, double whole) {
  if (!(whole > 0)) return "-";
  const double percent = 100 * part / whole;
  if (percent > 0 && percent < 0.05) return "<0.1 %";
  return fmt::format("{:.1f} %", percent);
}

std::string HumanDuration(int64_t ns) {
  if (ns < 0) ns = 0;
  if (ns < 1000) return fmt::format("{} ns", ns);
  if (ns < 1000000) return fmt::format("{} us", ns / 1000);
  if (ns < 1000000000) return fmt::format("{:.1f} ms", static_cast<double>(ns) / 1e6);
  const int64_t seconds = ns / 1000000000;
  if (seconds < 60) return fmt::format("{:.3f} s", static_cast<double>(ns) / 1e9);
  if (seconds < 3600) return fmt::format("{} min {:02} s", seconds / 60, seconds % 60);
  return fmt::format("{} h {:02} min", seconds / 3600, seconds / 60 % 60);
}

std::string HumanInterval(const Interval& interval, bool bytes) {
  if (interval.low == interval.high) return "";
  if (!bytes) {
    return fmt::format("{} .. {}", HumanCount(Saturated(interval.low)), HumanCount(Saturated(interval.high)));
  }
  const int unit = UnitOf(interval.high);
  return fmt::format("{} .. {} {}", InUnit(interval.low, unit), InUnit(interval.high, unit), kUnits[unit]);
}

size_t DisplayWidth(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), StartsCell));
}

std::string ShortenMiddle(std::string_view text, size_t width) {
  if (DisplayWidth(text) <= width) return std::string(text);
  if (width < 8) return std::string(FirstCells(text, width));
  const size_t tail = (width - 3) / 2;
  return std::string(FirstCells(text, width - 3 - tail)) + "..." + std::string(LastCells(text, tail));
}

std::string Printable(std::string_view text) {
  std::string printable;
  printable.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    uint32_t code = 0;
    const size_t length = Utf8Length(text, i, &code);
    if (length == 0) {
      printable += kReplacementCharacter;
    } else if (IsControl(code)) {
      printable += '?';
    } else {
      printable += text.substr(i, length);
    }
    i += length == 0 ? 1 : length;
  }
  return printable;
}

void TextTable::AddRow(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  for (std::string& cell : cells) cell = Printable(cell);
  rows_.push_back({std::move(cells), false});
}

void TextTable::AddNote(std::string text) {
  std::vector<std::string> cells(columns_.size());
  cells.back() = Printable(text);
  rows_.push_back({std::move(cells), true});
}

std::string TextTable::Render(const TextStyle& style) const {
  std::vector<size_t> widths(columns_.size());
  for (size_t i = 0; i < columns_.size(); ++i) {
    widths[i] = DisplayWidth(columns_[i].title);
    for (const Row& row : rows_) widths[i] = std::max(widths[i], DisplayWidth(row.cells[i]));
  }
  size_t fixed = 0;
  for (size_t i = 0; i + 1 < widths.size(); ++i) fixed += widths[i] + 2;
  size_t last_width = widths.back();
  if (style.width > 0 && columns_.back().elastic) {
    const size_t width = static_cast<size_t>(style.width);
    last_width = std::min(last_width, std::max(kLeastElasticWidth, width > fixed ? width - fixed : 0));
  }
  std::string out;
  auto line = [&](const std::vector<std::string>& cells, const char* before) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      const bool last = i + 1 == cells.size();
      std::string cell = last && columns_[i].elastic ? ShortenMiddle(cells[i], last_width) : cells[i];
      const size_t width = last ? last_width : widths[i];
      const std::string padding(width > DisplayWidth(cell) ? width - DisplayWidth(cell) : 0, ' ');
      if (i > 0) text += "  ";
      text += columns_[i].align == Align::kRight ? padding + cell : cell + padding;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    if (style.colour && *before != '\0') text = before + text + kPlain;
    out += text + '\n';
  };
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  line(titles, kBold);
  for (const Row& row : rows_) line(row.cells, row.note ? kDim : "");
  return out;
}

}  // namespace tidemark
