#include "tessera/base/io_options.h"

#include <algorithm>
#include <thread>

namespace tessera {

int threads_of(const IoOptions& options, int ranks) {
  constexpr int most = 4;  // one core copies and hashes several GB/s: no disk needs more
  if (options.threads > 0) return options.threads;
  const auto cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores / std::max(1, ranks), 1, most);
}

}  // namespace tessera
