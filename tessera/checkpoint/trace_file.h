// tessera/checkpoint/trace_file.h: a recording of what every thread did (base/trace.h) as a file that Perfetto and Chrome's about:tracing
// open: JSON in the Trace Event Format, complete events ("X"), one row a thread.
#pragma once

#include <string>

#include "tessera/base/trace.h"

namespace tessera {

std::string trace_json(const std::vector<TraceRow>& rows);

// Records from its making to finish(), for a program's --trace FILE. Without a path it does nothing.
class TraceFile {
 public:
  explicit TraceFile(std::string path);
  // Writes the file, once. Error(not_found, no_space, io) where it cannot.
  void finish();
  ~TraceFile();  // finishes; a failure is then not told

 private:
  std::string path_;
};

}  // namespace tessera
