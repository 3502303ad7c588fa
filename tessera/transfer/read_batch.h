// tessera/transfer/read_batch.h: all that a rank reads of a checkpoint, put in the order of the disk and read in few calls.
// What goes into memory as it stands in the file becomes runs of bytes. Runs that lie close together are fetched by one call: long ones
// straight into place, short ones, and the bytes between that nobody asked for, through a buffer that stays in cache. Where blocks are
// checked against a digest, a call is a block, which is checked where it was read to. What is to be converted, decompressed or has a CRC of
// its own goes item by item (read_box.h), and so do boxes that are all short runs, as of a transposed tensor.
// Memory      A block of 1 MiB a thread, some 50 bytes for each run, and what items decompress to.
// Files       All that it reads of are open until it ends.
// Errors      Those of read_item(); the first of several. The content of every destination is then undefined.
#pragma once

#include <functional>
#include <vector>

#include "tessera/transfer/items.h"

namespace tessera {

class ReadBatch {
 public:
  // Box `from` of the item into `into` (sizes as the box). Destinations do not overlap. The source of the item stays open until the end.
  void add(const OpenItem& item, const Box& from, const View& into);
  // Told now and then, by any thread, one at a time, which file is being read and how many bytes were read so far.
  using Progress = std::function<void(const std::string& file, int64_t read_bytes)>;
  // Reads everything, once.
  ReadCount run(int threads, const Progress& progress = {});

 private:
  // Bytes that lie together in the file and in memory.
  struct Run {
    int64_t at_bytes = 0;
    std::byte* into = nullptr;
    int64_t count_bytes = 0;
  };
  struct File {
    std::shared_ptr<const ByteSource> source;
    bool checked = false;
    std::vector<Run> runs;
  };
  struct ByItem {
    OpenItem item;
    Box from;
    View into;
  };
  // Runs [first, last) of a file, of which [begin, end) is fetched in one call.
  struct Call {
    const File* file = nullptr;
    size_t first = 0;
    size_t last = 0;
    int64_t begin_bytes = 0;
    int64_t end_bytes = 0;
  };
  class Worker;
  File& file_of(const OpenItem& item);
  void cut_into_calls(File& file);

  std::vector<std::unique_ptr<File>> files_;
  std::vector<ByItem> by_item_;
  std::vector<Call> calls_;
};

}  // namespace tessera
