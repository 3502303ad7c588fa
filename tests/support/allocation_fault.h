// tests/support/allocation_fault.h: makes the k-th `new` of this thread fail. A program that links it has its operator new replaced.
#pragma once

#include <cstdint>

namespace tessera {

// While it lives, allocations of the thread that made it are counted from 1, and the one numbered `at` throws bad_alloc; with `for_ever`
// all from there on. One at a time a thread.
class AllocationFault {
 public:
  explicit AllocationFault(int64_t at, bool for_ever = false);
  ~AllocationFault();
  AllocationFault(const AllocationFault&) = delete;
  AllocationFault& operator=(const AllocationFault&) = delete;
  // Whether an allocation was made to fail.
  bool hit() const;
};

}  // namespace tessera
