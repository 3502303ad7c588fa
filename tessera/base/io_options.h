// tessera/base/io_options.h: how a rank's bytes go to and from its files. The defaults suit most machines; none of them changes a byte.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

enum class WriteMode : uint8_t {
  automatic,  // what a probe of the file system found to be faster (storage/write_probe.h)
  buffered,   // through the page cache, which is told to begin writing early
  direct,     // past it (O_DIRECT), where the file system can; buffered elsewhere
};

struct IoOptions {
  // That work on one rank's files. 0: what the probe found for writing; else a share of this machine's cores, at most 4, as if all ranks
  // were on it. No more than 256 are used.
  int threads = 0;
  WriteMode mode = WriteMode::automatic;
  int64_t most_bytes_per_second = 0;  // that one rank writes; 0: as many as it can
};

// What is known of a file system that is to be written to.
struct WriteChoice {
  WriteMode mode = WriteMode::buffered;  // never automatic
  int threads = 0;                       // 0: not known
  double bytes_per_second = 0;           // the most that was measured; 0: not measured
  std::string why = "not probed";
};

// What the options mean for one of so many ranks: a mode that is not automatic, and at least one thread.
WriteChoice chosen(const IoOptions& options, int ranks, const WriteChoice& known);
// The same for reading, of which nothing is known.
int threads_of(const IoOptions& options, int ranks);
const char* name(WriteMode mode);

}  // namespace tessera
