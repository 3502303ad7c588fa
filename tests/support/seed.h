// tests/support/seed.h: what random tests take from the environment.
//   TESSERA_SEED   replays a run: every random test prints the seed that it used
//   TESSERA_SCALE  how many times as many cases as in the ordinary run (1); may be a fraction. Under sanitizers, which are slow, it begins
//                  at a tenth
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

namespace tessera {

inline uint64_t seed_of_this_run() {
  const char* const given = std::getenv("TESSERA_SEED");
  const uint64_t seed = given ? std::strtoull(given, nullptr, 10) : std::random_device()();
  std::printf("TESSERA_SEED=%llu replays this test\n", static_cast<unsigned long long>(seed));
  return seed;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double ordinary_scale = 0.1;
#else
constexpr double ordinary_scale = 1;
#endif

inline int64_t scaled(int64_t cases) {
  const char* const given = std::getenv("TESSERA_SCALE");
  const double scale = ordinary_scale * (given ? std::strtod(given, nullptr) : 1);
  const auto many = static_cast<int64_t>(static_cast<double>(cases) * scale);
  return many < 1 ? 1 : many;
}

}  // namespace tessera
