// cli/probe.h: tessera probe DIR: measures how a directory's file system is best written to, and keeps what it finds for the saves of this
// user (tessera/storage/write_probe.h).
#pragma once

#include <string>

#include "cli/output.h"

namespace tessera::cli {

struct ProbeCommand {
  std::string directory;
  bool explain = false;  // only say what is known, and where from; nothing is measured
  bool json = false;
};

Output probe(const ProbeCommand& command);

}  // namespace tessera::cli
