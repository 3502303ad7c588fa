// cli/steps.h: tessera steps ROOT: which steps a root holds, whether they are sound, what they measured, and what is left over.
#pragma once

#include <string>

#include "cli/output.h"

namespace tessera::cli {

struct StepsCommand {
  std::string root;
  bool full = false;  // reads every byte; else names and sizes
  bool json = false;
};

// Exit code 1 where a step is damaged. A root without steps is no error: what is left over in it is listed.
Output steps(const StepsCommand& command);

}  // namespace tessera::cli
