// tessera/base/guarded.h: a value that cannot be reached without its lock.
#pragma once

#include <condition_variable>
#include <mutex>
#include <utility>

#include "tessera/base/deadline.h"

namespace tessera {

template <class T>
class Guarded {
 public:
  template <class... Args>
  explicit Guarded(Args&&... args) : value_(std::forward<Args>(args)...) {}

  // Runs `work` on the value under the lock and returns what it returns. Wakes every waiter afterwards, also when it throws.
  template <class Work>
  auto with(Work work) {
    std::lock_guard lock(mutex_);
    const WakeAll wake{changed_};
    return work(value_);
  }

  // Waits until `ready(value)` holds, then runs `work(value)` under the same lock and returns true; false at the deadline.
  template <class Ready, class Work>
  bool when(Deadline deadline, Ready ready, Work work) {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_until(lock, deadline.at(), [&] { return ready(value_); })) return false;
    const WakeAll wake{changed_};
    work(value_);
    return true;
  }

 private:
  // Wakes while the lock is held: once it is free, a waiter may see what it waited for and destroy this object.
  struct WakeAll {
    std::condition_variable& changed;
    ~WakeAll() { changed.notify_all(); }
  };
  std::mutex mutex_;
  std::condition_variable changed_;
  T value_;
};

}  // namespace tessera
