// cli/ls.h: tessera ls PATH [--json] [--digest]: what a checkpoint holds, or which steps a root of steps holds.
#pragma once

#include <string>

#include "cli/output.h"

namespace tessera::cli {

struct LsOptions {
  std::string path;
  bool json = false;
  int rank = 0;  // of a checkpoint whose ranks saved each for itself
  bool digest = false;  // reads every tensor and adds the SHA-256 of its row-major bytes
};

Output ls(const LsOptions& options);

}  // namespace tessera::cli
