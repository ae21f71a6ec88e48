// See export_source.h.
#include "tools/export_source.h"

#include "tools/text_table.h"

namespace tidemark {

std::string ExportSource::Command() const { return Printable(trace.facts.CommandText()); }

std::string ExportSource::Program() const {
  const std::string& path = trace.facts.executable;
  return Printable(path.substr(path.rfind('/') + 1));
}

}  // namespace tidemark
