// A section that the ring reader hands out, turned back into events: through the bytes of the trace and the decoder of
// the tools, so that tests of the ring see what a reader of the trace would.
#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "profiler/event_encoder.h"
#include "profiler/section_file.h"
#include "profiler/trace_writer.h"
#include "tools/event_decoder.h"

namespace tidemark {

inline std::vector<TraceEvent> EventsOf(const EventsHeader& header, EventEncoder& encoder) {
  Payload payload;
  encoder.Finish(header, &payload);
  EventDecoder decoder;
  EventDecoder::Workspace workspace;
  std::vector<TraceEvent> events;
  if (!decoder.Start(payload.bytes, &workspace)) {
    ADD_FAILURE() << "the section is not sound";
    return events;
  }
  for (TraceEvent event; decoder.Next(&event);) events.push_back(event);
  EXPECT_FALSE(decoder.failed());
  EXPECT_EQ(events.size(), encoder.events());
  return events;
}

}  // namespace tidemark
