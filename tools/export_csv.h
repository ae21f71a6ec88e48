// Comma-separated values (RFC 4180), one row per stack: for spreadsheets, databases and data frames.
//
// A cell that a spreadsheet would take for a formula gets an apostrophe in front, as spreadsheets themselves write it.
#pragma once

#include "tools/export_source.h"

namespace tidemark {

void ExportCsv(const ExportSource& source, const WriteText& write);

}  // namespace tidemark
