#include "tessera/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace tessera {

int threads_for(int64_t pieces, int64_t each) {
  constexpr int64_t most = 16;
  const auto cores = static_cast<int64_t>(std::thread::hardware_concurrency());  // 0 where it cannot be known
  return static_cast<int>(std::max<int64_t>(1, std::min({most, cores, pieces / each})));
}

void in_parallel(size_t count, int threads, const std::function<void(size_t)>& work) {
  std::atomic<size_t> next = 0;
  std::mutex lock;
  std::exception_ptr failure;
  size_t failed = count;  // the lowest number that did
  const auto run = [&] {
    for (size_t i = next++; i < count; i = next++) {
      try {
        work(i);
      } catch (...) {
        next = count;  // what was begun before is brought to its end, so the lowest failure is always the same
        const std::lock_guard hold(lock);
        if (i >= failed) continue;
        failed = i;
        failure = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> helpers;  // joined whatever happens
    helpers.reserve(static_cast<size_t>(std::max(0, threads - 1)));
    try {
      while (static_cast<int>(helpers.size()) + 1 < threads && helpers.size() + 1 < count) helpers.emplace_back(run);
    } catch (const std::system_error&) {
      // Those that are there do it.
    }
    run();
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace tessera
