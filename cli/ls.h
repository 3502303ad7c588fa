// cli/ls.h: tessera ls PATH [KEY…] [--json] [--digest]: what a checkpoint holds, all or these keys, or which steps a root of steps
// holds.
#pragma once

#include <string>
#include <vector>

#include "cli/output.h"

namespace tessera::cli {

struct LsOptions {
  std::string path;
  std::vector<std::string> keys = {};  // all, if empty; none of a root of steps
  bool json = false;
  int rank = 0;  // of a checkpoint whose ranks saved each for itself
  bool digest = false;  // reads every tensor and adds the SHA-256 of its row-major bytes
};

Output ls(const LsOptions& options);

}  // namespace tessera::cli
