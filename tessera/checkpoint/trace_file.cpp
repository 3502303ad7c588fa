#include "tessera/checkpoint/trace_file.h"

#include <cerrno>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "tessera/base/error.h"

namespace tessera {

std::string trace_json(const std::vector<TraceRow>& rows) {
  auto events = nlohmann::json::array();
  int thread = 0;
  for (const TraceRow& row : rows) {
    ++thread;
    events.push_back({{"name", "thread_name"}, {"ph", "M"}, {"pid", 1}, {"tid", thread}, {"args", {{"name", row.thread}}}});
    events.push_back({{"name", "thread_sort_index"}, {"ph", "M"}, {"pid", 1}, {"tid", thread}, {"args", {{"sort_index", thread}}}});
    for (const TraceEvent& event : row.events) {
      nlohmann::json one{{"name", event.what},
                         {"ph", "X"},
                         {"pid", 1},
                         {"tid", thread},
                         {"ts", static_cast<double>(event.begin_ns) / 1e3},
                         {"dur", static_cast<double>(event.length_ns) / 1e3}};
      if (event.bytes >= 0) one["args"] = {{"bytes", event.bytes}};
      events.push_back(std::move(one));
    }
  }
  return nlohmann::json{{"traceEvents", std::move(events)}, {"displayTimeUnit", "ms"}}.dump(-1, ' ', false,
                                                                                            nlohmann::json::error_handler_t::replace);
}

TraceFile::TraceFile(std::string path) : path_(std::move(path)) {
  if (!path_.empty()) record_trace();
}

void TraceFile::finish() {
  if (path_.empty()) return;
  const std::string path = std::exchange(path_, {});
  const auto rows = take_trace();  // recording ends whatever comes
  std::ofstream out(path, std::ios::binary);
  if (!out) throw Error(os_fault(errno, "open the trace", path));
  out << trace_json(rows);
  out.close();
  if (!out) throw Error(os_fault(errno, "write the trace", path));
}

TraceFile::~TraceFile() {
  capture([&] { finish(); });
}

}  // namespace tessera
