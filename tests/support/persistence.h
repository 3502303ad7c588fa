// tests/support/persistence.h: which states a disk may be in after the power went, given what was done to it before.
// Assumptions, the weakest that POSIX and the file systems of Linux allow:
//   data        What was written to a file and is covered by a later fsync of it that returned is there. Of any other write, each
//               piece of 512 B or 4 KiB is there, or is not, or is garbage, in any combination, whatever the order of the writes.
//               The file's length is anything from the length at its last fsync to the longest since.
//   names       A change of names (create, link, unlink, rename, exchange) that is covered by a later fsync of one of its directories
//               is there. Any other is there or is not, whatever the order of the changes: what was never synced may be reordered.
//   atomicity   One change of names is there whole or not at all: a rename never shows both names, or neither.
//   order       Where two changes of one name survive, the later one is what shows.
// Not assumed: that fsync of a file makes its name durable, that a lost name takes its file's data with it, that changes in one
// directory keep their order.
#pragma once

#include <cstddef>
#include <random>

#include "tests/support/sim_disk.h"

namespace tessera {

using Random = std::mt19937_64;

// What survives of that which was never synced.
enum class Survives : uint8_t { nothing, everything, names, data, anything };
constexpr Survives extremes[] = {Survives::nothing, Survives::everything, Survives::names, Survives::data};

// A disk after a crash that came when the first `count` changes had been made. `random` is used for Survives::anything only.
DiskImage crash_state(const Recording& recording, size_t count, Survives survives, Random& random);

}  // namespace tessera
