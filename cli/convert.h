// cli/convert.h: tessera convert SRC DST: a checkpoint in another format, as exchange/convert.h does it.
#pragma once

#include <string>
#include <vector>

#include "cli/output.h"
#include "tessera/exchange/convert.h"

namespace tessera::cli {

struct ConvertCommand {
  std::string source;
  std::string target;
  std::string to;                    // "dcp", "safetensors", "torch"; empty: by the target's name
  std::vector<std::string> dtypes;   // "bfloat16" or "PATTERN=bfloat16"
  std::vector<std::string> renames;  // "REGEX=REPLACEMENT"
  int rank = 0;                      // of a checkpoint whose ranks saved each for itself
  ConvertOptions options;
};

// Shows how far it is on standard error where that is a terminal.
Output convert(const ConvertCommand& command);

}  // namespace tessera::cli
