#include "tessera/base/io_options.h"

#include <algorithm>
#include <thread>

namespace tessera {

const char* name(WriteMode mode) {
  switch (mode) {
    case WriteMode::automatic: return "automatic";
    case WriteMode::buffered: return "buffered";
    case WriteMode::direct: return "direct";
  }
  return "?";
}

WriteChoice chosen(const IoOptions& options, int ranks, const WriteChoice& known) {
  WriteChoice choice = known;
  if (options.mode != WriteMode::automatic) choice.mode = options.mode;
  if (options.threads > 0 || known.threads == 0) choice.threads = threads_of(options, ranks);
  if (options.mode != WriteMode::automatic) choice.why = "as asked";
  return choice;
}

int threads_of(const IoOptions& options, int ranks) {
  constexpr int most_threads = 256;
  constexpr int most = 4;  // one core copies and hashes several GB/s: no disk needs more
  if (options.threads > 0) return std::min(options.threads, most_threads);
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores / std::max(1, ranks), 1, most);
}

}  // namespace tessera
