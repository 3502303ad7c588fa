// tessera/base/background.h: threads that stand back behind the trainer's.
#pragma once

#include <vector>

namespace tessera {

// What threads in the background may take. The default is a thread like any other.
struct Background {
  int niceness = 0;            // 0 to 19: how far they stand back where all cores are wanted (nice(2)); Linux
  // The only cores that they run on; empty: those of whoever starts them; Linux. May be cores that the trainer's thread is kept off.
  std::vector<int> cpus = {};
};

// Errors  Error(invalid_argument) for a niceness outside 0 to 19 and for numbers that no core has.
void check(const Background& background);
// For the calling thread, from now on. It cannot be taken back. Where the system refuses, nothing changes.
void stand_back(const Background& background) noexcept;

}  // namespace tessera
