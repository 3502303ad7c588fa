// tessera/format/limits.h: what a hostile file may cost. The defaults admit any checkpoint that is used in earnest.
#pragma once

#include <cstdint>

namespace tessera::format {

struct Limits {
  int64_t metadata_bytes = int64_t{2} << 30;  // a `.metadata` file, and the pickle of a torch.save file
  int64_t nodes = 200'000'000;                // pickle values alive at once, shared ones counted each time they are used
  int depth = 100;
  int64_t header_bytes = 100'000'000;         // of a safetensors file: the reference reader's limit
  int64_t object_bytes = int64_t{1} << 30;    // one object, after decompression
};

}  // namespace tessera::format
