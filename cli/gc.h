// cli/gc.h: tessera gc ROOT: removes what saves that were cut short left behind, and the steps that no rule keeps, if there are rules.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "cli/output.h"
#include "tessera/checkpoint/retention.h"

namespace tessera::cli {

struct GcCommand {
  std::string root;
  bool dry_run = false;
  std::string older_than = "1h";  // "90s", "30m", "2h", "7d"; "0" takes what may be at work as well
  std::string keep_best;          // "loss", "loss:3", "accuracy:3:higher"
  Retention rules;                // keep_last and keep_every
};

// Exit code 1 where something could not be removed.
Output gc(const GcCommand& command);

// Both throw Error(invalid_argument).
std::chrono::seconds age_named(std::string_view text);
KeepBest best_named(std::string_view text);

}  // namespace tessera::cli
