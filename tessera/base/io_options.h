// tessera/base/io_options.h: how a rank's bytes go to and from its files. The defaults suit most machines; none of them changes a byte.
#pragma once

#include <cstdint>

namespace tessera {

enum class WriteMode : uint8_t {
  automatic,  // what a probe of the file system found to be faster (storage/write_probe.h)
  buffered,   // through the page cache, which is told to begin writing early
  direct,     // past it (O_DIRECT), where the file system can; buffered elsewhere
};

struct IoOptions {
  // That work on one rank's files. 0: a share of this machine's cores, at most 4, as if all ranks were on it.
  int threads = 0;
  WriteMode mode = WriteMode::automatic;
  int64_t most_bytes_per_second = 0;  // that one rank writes; 0: as many as it can
};

// What `threads` means for one of so many ranks: at least 1.
int threads_of(const IoOptions& options, int ranks);

}  // namespace tessera
