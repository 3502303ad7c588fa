// tessera/format/safetensors.h: safetensors files, and the index of several that are one model.
// Source      The reference reader and writer, safetensors 0.8; the keys DCP_SHARDING_INFO of torch.distributed.checkpoint 2.9 to 2.13.
// Units       Bytes from the start of the file, elements in shapes.
// Errors      Reading throws Error(corrupt, unsupported or limit) with file and offset. What the reference reader refuses is refused,
//             and more: docs/format.md lists the differences.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tessera/base/byte_source.h"
#include "tessera/format/limits.h"
#include "tessera/layout/box.h"
#include "tessera/layout/dtype.h"

namespace tessera::format {

struct SafeTensor {
  std::string key;
  DType dtype = DType::float32;
  Sizes sizes;
  int64_t offset_bytes = 0;
  int64_t length_bytes = 0;
};

struct SafetensorsFile {
  std::vector<SafeTensor> tensors;              // by offset
  std::map<std::string, std::string> metadata;  // __metadata__
  // Where each tensor stands in a larger one, in files of one rank of a distributed save.
  std::map<std::string, Sizes> saved_offsets;
};
SafetensorsFile read_safetensors(const ByteSource& file, const Limits& limits = {});

// Gives the tensors their offsets, largest elements first so that all are aligned, then by name, and returns the bytes before the data.
// Errors  Error(unsupported) for dtypes and keys that the format does not have.
Bytes lay_out_safetensors(std::vector<SafeTensor>& tensors, const std::map<std::string, std::string>& metadata = {});

// key → file.
using WeightMap = std::map<std::string, std::string>;
WeightMap read_weight_map(std::span<const std::byte> index, const std::string& file);
Bytes write_weight_map(const WeightMap& map, int64_t total_bytes);

}  // namespace tessera::format
