// A payload that is a table, cut into its columns (docs/trace-format.md, "Tables"); nothing is copied.
//
// Must not: know which columns a table has. Ids that nobody asks for are how later minor versions add data.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "profiler/columns.h"

namespace tidemark {

class TableView {
 public:
  // False when the columns do not fit the payload, or one is there twice.
  bool Parse(std::string_view payload) {
    ColumnCursor cursor(payload);
    present_ = 0;
    rows_ = cursor.Get();
    while (cursor.ok() && !cursor.AtEnd()) {
      const uint64_t id = cursor.Get();
      const std::string_view column = cursor.GetText();
      if (id >= columns_.size()) continue;
      if (Has(id)) return false;
      columns_[id] = column;
      present_ |= uint64_t{1} << id;
    }
    // One column at least holds a byte for every row, so that a row count cannot promise more than is there.
    return cursor.ok() && rows_ <= payload.size();
  }

  uint64_t rows() const { return rows_; }
  template <typename Id>
  bool Has(Id id) const {
    return (present_ >> static_cast<uint64_t>(id) & 1) != 0;
  }
  template <typename Id>
  ColumnCursor Column(Id id) const {
    return Has(id) ? ColumnCursor(columns_[static_cast<size_t>(id)]) : ColumnCursor();
  }
  template <typename Id>
  size_t BytesOf(Id id) const {
    return Has(id) ? columns_[static_cast<size_t>(id)].size() : 0;
  }

 private:
  uint64_t rows_ = 0;
  uint64_t present_ = 0;
  std::array<std::string_view, 64> columns_;
};

}  // namespace tidemark
