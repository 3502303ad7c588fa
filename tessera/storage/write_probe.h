// tessera/storage/write_probe.h: which way of writing a file system likes best, measured on it in some seconds.
// What is tried through the page cache, which is told to begin writing early, and past it (O_DIRECT) into room that was taken beforehand;
//             each with 1, 2 and 4 writes of a block under way. All make the bytes durable: the time includes the sync.
// Kept        in a small JSON file of the user's cache (XDG_CACHE_HOME, else ~/.cache, /tessera/writes.json), by machine and file system
//             (device number and type); a save with WriteMode::automatic looks there, and writes through the page cache where nothing is
//             known.
// Trust       The file is advice and nothing more: what is damaged or of another version in it is as if it were not there.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tessera/base/io_options.h"
#include "tessera/storage/file_system.h"

namespace tessera {

struct WriteTrial {
  WriteMode mode = WriteMode::buffered;
  int threads = 1;
  double bytes_per_second = 0;  // 0: this file system does not do it
};
struct WriteProbe {
  WriteChoice choice;
  std::vector<WriteTrial> trials;
};
struct WriteProbeOptions {
  int64_t bytes = int64_t{64} << 20;  // that each trial writes
  int rounds = 3;                     // each trial in each round, in another order; the median counts
};

// Writes files in `directory`, which must exist, and removes them. Error(io, no_space) where it cannot be written to at all.
WriteProbe probe_writes(const std::string& directory, const WriteProbeOptions& options = {}, FileSystem& files = posix());

// The choice for the file system that an open directory or file lies on, or nothing.
std::optional<WriteChoice> known_choice(int descriptor);
// Keeps it for the file system of `directory`. Error(io) where the cache cannot be written.
void keep_choice(const std::string& directory, const WriteChoice& choice);
// Where choices are kept; empty where the environment names no home.
std::string choices_file();

}  // namespace tessera
