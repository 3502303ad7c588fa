// tests/support/sim_trouble.h: one process's operations on a disk: each takes virtual time, may fail or take long, and is a point where the
// process may be killed or paused. Once dead, it does nothing more to the disk, whatever its code still tries.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/sim_world.h"

namespace tessera {

// What goes wrong with a process's disk, by the number of the operation (0 is its first).
struct StorageTrouble {
  int64_t operation = 0;
  bool for_ever = false;  // with all later ones too
  int os_errno = 0;  // 0: it only takes long
  SimSpan takes = {};  // before it is done or fails
  bool after_effect = false;  // it is done, and told as failed
};

// Sees each operation just before it is done: the world's witness, who is told no lies.
using StorageWitness = std::function<void(std::string_view operation, const std::string& path)>;

class Troubled {
 public:
  Troubled(SimProcess& process, std::vector<StorageTrouble> troubles, StorageWitness witness)
      : process_(process), troubles_(std::move(troubles)), witness_(std::move(witness)) {}

  // Runs `work` as one operation. Where that is to fail, `fail(errno)` is what comes of it, or throws.
  template <class Work, class Fail>
  auto operation(const char* name, const std::string& path, Work work, Fail fail) -> decltype(work()) {
    process_.sleep(SimSpan(process_.world().random.in(10'000, 1'000'000)));
    const int64_t number = count_++;
    const StorageTrouble* failing = nullptr;
    for (const StorageTrouble& trouble : troubles_) {
      if (number != trouble.operation && !(trouble.for_ever && number > trouble.operation)) continue;
      if (trouble.takes != SimSpan{}) process_.sleep(trouble.takes);
      if (trouble.os_errno != 0) failing = &trouble;
    }
    process_.world().trace(process_.name(), std::string(name) + " " + path + (failing ? " fails" : ""));
    failures_ += failing != nullptr;
    if (failing && !failing->after_effect) return fail(failing->os_errno);
    if (witness_) witness_(name, path);
    if constexpr (std::is_void_v<decltype(work())>) {
      work();
      if (failing) fail(failing->os_errno);
    } else {
      auto value = work();
      return failing ? fail(failing->os_errno) : std::move(value);
    }
  }
  SimProcess& process() { return process_; }
  int64_t operations() const { return count_; }
  int64_t failures() const { return failures_; }

 private:
  SimProcess& process_;
  const std::vector<StorageTrouble> troubles_;
  const StorageWitness witness_;
  int64_t count_ = 0;
  int64_t failures_ = 0;
};

}  // namespace tessera
