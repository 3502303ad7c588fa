// cli/verify.h: tessera verify PATH: whether a checkpoint, or each step of a root of steps, is what was published.
#pragma once

#include <string>

#include "cli/output.h"

namespace tessera::cli {

struct VerifyCommand {
  std::string path;
  bool quick = false;  // names and sizes, and no byte of the data
  bool json = false;
  int threads = 1;
};

// Exit code 1 where anything is damaged.
Output verify(const VerifyCommand& command);

}  // namespace tessera::cli
