// The report as people read it: a summary of the run, then one table of hotspots.
#pragma once

#include <string>

#include "tools/hotspots.h"
#include "tools/run_facts.h"
#include "tools/text_table.h"

namespace tidemark {

std::string SummaryText(const HeapModel& model, const RunFacts& facts, const TextStyle& style);
std::string HotspotText(const Hotspots& hotspots, const HeapModel& model, const FrameNames& names,
                        const TextStyle& style);

}  // namespace tidemark
