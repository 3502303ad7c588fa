// tessera/plan/load_plan.h: who reads what. Pure functions of a manifest and of what a rank wants filled.
// A state dict is matched with a manifest key by key; then every box that is wanted is cut by the chunks that hold it.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tessera/base/io_options.h"
#include "tessera/layout/key_filter.h"
#include "tessera/layout/state_dict.h"
#include "tessera/manifest/manifest.h"

namespace tessera {

// A key of the checkpoint under another name: std::regex_replace of every match of an ECMAScript pattern, "$1" its first group.
struct Rename {
  std::string pattern;
  std::string replacement;
};

// What is loaded, under which names, and what may pass. By default everything that is wanted must be there, in the same shape and dtype.
struct LoadOptions {
  bool allow_missing = false;  // keys that the checkpoint lacks keep their values
  bool allow_shape = false;    // tensors of another shape keep their values
  // Tensors of another dtype are converted: any float to any float (rounding to nearest even), integers to floats or to
  // wider integers. What could not be told back (float to integer, complex, 8-bit floats) stays an error.
  bool allow_cast = false;
  std::vector<std::string> cast_keys = {};  // patterns (layout/key_filter.h) of keys for which that holds although allow_cast is false
  KeyFilter filter = {};                    // leaves of the state that it does not take keep their values
  std::vector<Rename> rename = {};          // applied to the checkpoint's keys, one after another, before all else
  bool verify = true;    // false trusts the disk: neither digests nor checksums of tensor data are looked at
  IoOptions io = {};     // threads; the rest is for writing
  bool staged = false;   // read into memory of its own first: a failed load then leaves every tensor as it was, for twice the memory
};

// The part of a chunk that a wanted box needs.
struct ChunkRead {
  size_t chunk = 0;  // index in TensorEntry::chunks
  Box from;          // relative to the chunk
  Box to;            // relative to the wanted box, same sizes
  bool operator==(const ChunkRead&) const = default;
};
// In the order of the chunks. The chunks tile the tensor, so the reads tile `wanted`.
// Cost        O(log chunks + reads) where chunks lie in the order of their boxes, as we write them, and stock where it cuts rows; O(chunks)
//             at most.
std::vector<ChunkRead> cut(const TensorEntry& entry, const Box& wanted);

// One leaf of the state that will be filled, and from which key.
struct Wanted {
  std::string leaf;  // key in the state dict
  std::string key;  // key in the manifest; differs for rank-local leaves
};

struct Match {
  std::vector<Wanted> tensors;
  std::vector<Wanted> objects;
  // Keys of the state that are left alone: the checkpoint has none, or another shape. Keys converted. Rank-local keys that start afresh.
  std::vector<std::string> missing, reshaped, cast, reset;
};
// Errors  Error(mismatch) for shapes, dtypes, kinds and the number of ranks, Error(not_found) for missing keys; each names the
//         keys (the first few, and how many more), with what both sides say.
Match match(const Manifest& manifest, const StateDict& state, int rank, int size, const LoadOptions& options);

// True if allow_cast covers the conversion.
bool can_cast(DType from, DType to);

}  // namespace tessera
