// tessera/manifest/manifest.h: what lies in a checkpoint: key → chunks → file and range. The waist of the house:
// every format decodes into a Manifest and encodes from one; a save ends with one, a load starts from one.
// Units       Offsets and lengths are bytes in int64_t; boxes are elements.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/layout/box.h"
#include "tessera/layout/dtype.h"
#include "tessera/layout/state_dict.h"

namespace tessera {

// Where an item's bytes are.
struct Extent {
  std::string file;  // relative to the checkpoint's directory; a checked relative path without ".."
  int64_t offset_bytes = 0;
  int64_t length_bytes = 0;
  std::vector<std::string> transforms = {};  // to undo in this order, as in "stream.zstd/1"; normally none
  bool operator==(const Extent&) const = default;
};

// A box of a tensor, on disk.
struct Chunk {
  Box box;
  Extent at;
  bool operator==(const Chunk&) const = default;
};

struct TensorEntry {
  DType dtype = DType::float32;
  Sizes sizes;
  std::vector<Chunk> chunks;
  bool operator==(const TensorEntry&) const = default;
};

struct ObjectEntry {
  Extent at;
  bool operator==(const ObjectEntry&) const = default;
};

struct Entry {
  KeyPath path;
  std::variant<TensorEntry, ObjectEntry> is;
  bool operator==(const Entry&) const = default;
};

struct Manifest {
  std::map<std::string, Entry> entries;
  // Who wrote it: "tessera/<version> <save id>" splits into these; version -1 and an empty id where stock PyTorch did.
  int writer_version = -1;
  std::string save_id;
  bool operator==(const Manifest&) const = default;
};

// Checks what every manifest must satisfy whatever format it came from: boxes inside their tensors, no overlap, no hole
// (the volumes add up), extents with sane numbers and relative file names. Throws Error(corrupt) that names the key.
// Cost        O(chunks · dimensions) for a sound manifest, bounded for any other.
void validate(const Manifest& manifest);

// Throws Error(`code`) naming `key` unless `boxes` tile a tensor of these sizes exactly: each inside, no two
// overlapping, none missing. Empty boxes are allowed anywhere inside.
// Cost        O(boxes · dimensions); where they follow each other along one dimension or in row-major order, next to nothing.
void check_tiling(const std::string& key, std::span<const int64_t> sizes, const std::vector<Box>& boxes, Code code);
void check_tiling(const std::string& key, const TensorEntry& entry, Code code);

}  // namespace tessera
