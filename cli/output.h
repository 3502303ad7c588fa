// cli/output.h: what a command leaves behind: text for standard output, and how it went. Printed by main once the command
// is done, so that a command that fails prints no half answer.
#pragma once

#include <string>

namespace tessera::cli {

inline constexpr int exit_ok = 0;
inline constexpr int exit_differs = 1;  // or damaged

struct Output {
  std::string text;
  int exit_code = exit_ok;
};

}  // namespace tessera::cli
