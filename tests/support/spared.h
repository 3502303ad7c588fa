// tests/support/spared.h: while one lives, allocations of its thread do not fail (allocation_fault.h): a test's own tools, which are no
// part of what is tested.
#pragma once

namespace tessera {

inline thread_local int spared_depth = 0;

class Spared {
 public:
  Spared() { ++spared_depth; }
  ~Spared() { --spared_depth; }
  Spared(const Spared&) = delete;
  Spared& operator=(const Spared&) = delete;
};

}  // namespace tessera
