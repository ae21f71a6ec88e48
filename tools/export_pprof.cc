// See export_pprof.h. Field numbers are those of profile.proto, in the order in which it has them.
#include "tools/export_pprof.h"

#include <zlib.h>

#include <map>
#include <stdexcept>
#include <tuple>
#include <unordered_map>

#include "tools/hex_text.h"
#include "tools/protobuf_message.h"
#include "tools/text_table.h"
#include "tools/thread_shares.h"

namespace tidemark {
namespace {

// The first four are those of Go's heap profiles, in their order: pprof's -inuse_space and so on are these names.
struct SampleType {
  const char *type, *unit;
};
constexpr SampleType kSampleTypes[] = {{"alloc_objects", "count"}, {"alloc_space", "bytes"},
                                       {"inuse_objects", "count"}, {"inuse_space", "bytes"},
                                       {"peak_objects", "count"},  {"peak_space", "bytes"}};
// What is in use at the end of a run is often nothing.
constexpr const char* kDefaultSampleType = "alloc_space";

// Numbers are signed there; more than that is no amount of memory.
uint64_t Value(const Amount& amount) { return std::min<uint64_t>(amount.Rounded(), INT64_MAX); }

class Profile {
 public:
  explicit Profile(const ExportSource& source) : source_(source) { StringId(""); }

  std::string Bytes() {
    AddMappings();
    const ThreadShares shares(*source_.trace.reader);
    source_.PrefetchNames();
    std::unordered_map<uint32_t, const TraceThread*> threads;
    for (const TraceThread& thread : source_.trace.reader->threads()) threads[thread.serial] = &thread;
    for (const SampleType& type : kSampleTypes) {
      ProtobufMessage message;
      message.Number(1, StringId(type.type));
      message.Number(2, StringId(type.unit));
      profile_.Message(1, message);
    }
    for (const ThreadShares::Share& share : shares.all()) {
      ProtobufMessage sample;
      sample.Numbers(1, LocationsOf(source_.model().stacks()[share.stack].node));
      const Usage allocated = share.tally.Allocated(), live = share.tally.Live(),
                  peak = share.tally.Peak(shares.epoch());
      sample.Numbers(2, {Value(allocated.blocks), Value(allocated.bytes), Value(live.blocks), Value(live.bytes),
                         Value(peak.blocks), Value(peak.bytes)});
      const auto thread = threads.find(source_.model().threads()[share.thread].serial);
      if (thread != threads.end()) {
        AddLabel(&sample, "thread", Printable(thread->second->name));
        AddLabel(&sample, "thread_id", std::to_string(thread->second->tid));
      }
      profile_.Message(2, sample);
    }
    for (const ProtobufMessage& location : locations_) profile_.Message(4, location);
    AddFunctions();
    AddFacts();
    for (const std::string& text : strings_) profile_.Bytes(6, text);
    return profile_.bytes();
  }

 private:
  uint64_t StringId(const std::string& text) {
    const auto [found, added] = string_ids_.try_emplace(text, strings_.size());
    if (added) strings_.push_back(text);
    return found->second;
  }

  void AddLabel(ProtobufMessage* sample, const char* key, const std::string& text) {
    if (text.empty()) return;
    ProtobufMessage label;
    label.Number(1, StringId(key));
    label.Number(2, StringId(text));
    sample->Message(3, label);
  }

  // The program itself comes first: pprof takes the first for the profile's file.
  void AddMappings() {
    const std::vector<TraceModule>& modules = source_.trace.reader->modules();
    mapping_ids_.assign(modules.size(), 0);
    uint64_t id = 0;
    for (const bool program : {true, false}) {
      for (size_t i = 0; i < modules.size(); ++i) {
        const TraceModule& module = modules[i];
        if ((module.path == source_.trace.facts.executable) != program) continue;
        mapping_ids_[i] = ++id;
        ProtobufMessage mapping;
        mapping.Number(1, id);
        mapping.Number(2, module.start);
        mapping.Number(3, module.end);
        mapping.Number(5, StringId(source_.paths.Of(module.path)));
        mapping.Number(6, StringId(HexText(module.build_id)));
        // All has been looked up; pprof shall not try again with what lies at the paths on its own machine.
        for (uint32_t has_functions = 7; has_functions <= 10; ++has_functions) mapping.Number(has_functions, 1);
        profile_.Message(3, mapping);
      }
    }
  }

  std::vector<uint64_t> LocationsOf(uint32_t leaf) {
    std::vector<uint64_t> ids;
    for (const FrameNames::Step& step : source_.names().StepsOf(leaf)) {
      const uint64_t pc = step.node == 0 ? 0 : source_.names().PcOf(step.node);
      const uint32_t module = step.node == 0 ? FrameNames::kNoModule : source_.names().ModuleOf(step.node);
      const uint32_t frame = step.count == 0 ? 0 : step.frames[0];
      const auto [found, added] = location_ids_.try_emplace({pc, module, frame}, location_ids_.size() + 1);
      if (added) {
        ProtobufMessage location;
        location.Number(1, found->second);
        if (module != FrameNames::kNoModule) location.Number(2, mapping_ids_[module]);
        location.Number(3, pc);
        for (uint32_t i = 0; i < step.count; ++i) {
          ProtobufMessage line;
          line.Number(1, FunctionId(step.frames[i]));
          line.Number(2, source_.names().frame(step.frames[i]).line);
          location.Message(4, line);
        }
        locations_.push_back(location);
      }
      ids.push_back(found->second);
    }
    return ids;
  }

  // A function has one file there; inlined code of others gives it several here.
  uint64_t FunctionId(uint32_t frame_id) {
    const NamedFrame& frame = source_.names().frame(frame_id);
    return functions_.try_emplace({frame.function, frame.file}, functions_.size() + 1).first->second;
  }

  void AddFunctions() {
    for (const auto& [key, id] : functions_) {
      ProtobufMessage function;
      function.Number(1, id);
      const uint64_t name = StringId(Printable(source_.names().function(key.first).name));
      function.Number(2, name);
      function.Number(3, name);
      function.Number(4, StringId(source_.paths.Of(key.second)));
      profile_.Message(5, function);
    }
  }

  void AddFacts() {
    const RunFacts& facts = source_.trace.facts;
    profile_.Number(9, static_cast<uint64_t>(facts.start_realtime_ns));
    profile_.Number(10, static_cast<uint64_t>(facts.duration_ns));
    ProtobufMessage period_type;
    period_type.Number(1, StringId("space"));
    period_type.Number(2, StringId("bytes"));
    profile_.Message(11, period_type);
    profile_.Number(12, source_.model().sampled() ? source_.model().sample_bytes() : 1);
    profile_.Numbers(13, {StringId(source_.Command()), StringId(Printable(facts.LossText()))});
    profile_.Number(14, StringId(kDefaultSampleType));
  }

  const ExportSource& source_;
  ProtobufMessage profile_;
  std::vector<std::string> strings_;
  std::unordered_map<std::string, uint64_t> string_ids_;
  std::vector<uint64_t> mapping_ids_;                                          // by module
  std::map<std::tuple<uint64_t, uint32_t, uint32_t>, uint64_t> location_ids_;  // address, module, innermost frame
  std::vector<ProtobufMessage> locations_;
  std::map<std::pair<uint32_t, std::string>, uint64_t> functions_;  // function, file
};

// As gzip does it, without a time: equal profiles are equal files.
void WriteGzip(std::string_view text, const WriteText& write) {
  z_stream stream{};
  constexpr int kGzip = 15 + 16, kMemory = 8;
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, kGzip, kMemory, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw std::bad_alloc();
  }
  char buffer[1 << 16];
  do {
    if (stream.avail_in == 0) {
      const size_t piece = std::min<size_t>(text.size(), 1u << 30);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
      stream.avail_in = static_cast<uInt>(piece);
      text.remove_prefix(piece);
    }
    stream.next_out = reinterpret_cast<Bytef*>(buffer);
    stream.avail_out = sizeof(buffer);
    const int status = deflate(&stream, text.empty() ? Z_FINISH : Z_NO_FLUSH);
    write({buffer, sizeof(buffer) - stream.avail_out});
    if (status == Z_STREAM_END) break;
  } while (true);
  deflateEnd(&stream);
}

}  // namespace

void ExportPprof(const ExportSource& source, const WriteText& write) { WriteGzip(Profile(source).Bytes(), write); }

}  // namespace tidemark
