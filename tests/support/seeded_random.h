// tests/support/seeded_random.h: numbers that a seed decides, the same with every compiler and library.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera {

class SeededRandom {
 public:
  explicit SeededRandom(uint64_t seed) : state_(seed) {}
  // SplitMix64.
  uint64_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // Any of [begin, end).
  int64_t in(int64_t begin, int64_t end) { return begin + static_cast<int64_t>(next() % static_cast<uint64_t>(end - begin)); }
  bool chance(int64_t one_in) { return in(0, one_in) == 0; }
  const auto& one_of(const auto& list) { return list[static_cast<size_t>(in(0, static_cast<int64_t>(list.size())))]; }

 private:
  uint64_t state_;
};

}  // namespace tessera
