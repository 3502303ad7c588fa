// tests/support/mutate.h: every damage of a kind that storage, copies and people do to a checkpoint's files, by number: so that a run may
// take some of them by chance, or all.
//   each byte         xor 01, xor 80, xor FF, set to 00
//   each length       the file cut to it
//   blocks            any two of 512 bytes in one file change places, and any two neighbours of 64
//   files             any two change places; one is missing; one is that of another save of the same shape
#pragma once

#include <vector>

#include "tests/support/overlay_storage.h"

namespace tessera {

struct Mutation {
  enum class Kind : uint8_t { byte, cut, blocks, swapped_files, missing_file, foreign_file };
  Kind kind = Kind::byte;
  std::string what;  // "__0_0.distcp: byte 17 xor 80": for messages
  Changes changes;   // empty where nothing would differ: a byte that is 00 already, blocks that are alike
};

class Mutations {
 public:
  // `others`: other saves, whose files have the same names.
  explicit Mutations(Files files, std::vector<Files> others = {});
  int64_t count() const { return count_; }
  Mutation at(int64_t index) const;

 private:
  struct Range {
    int64_t begin;
    Mutation::Kind kind;
    Path file;
    int64_t unit_bytes;    // of blocks
    int64_t other = 0;     // which other save
    Path second = {};      // of two files
  };
  void add(int64_t count, Range range);

  Files files_;
  std::vector<Files> others_;
  std::vector<Range> ranges_;
  int64_t count_ = 0;
};

}  // namespace tessera
