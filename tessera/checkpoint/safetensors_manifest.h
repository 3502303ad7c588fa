// tessera/checkpoint/safetensors_manifest.h: safetensors files beside each other as one checkpoint.
// Rules       A key stands in one file, unless the files carry DCP_SHARDING_INFO: then each has one box of it, and the tensor is as
//             large as the boxes reach. Trailing boxes that are missing cannot be known from the files.
#pragma once

#include <string>
#include <vector>

#include "tessera/format/limits.h"
#include "tessera/manifest/manifest.h"
#include "tessera/storage/storage.h"

namespace tessera {

// The names of the files that are the checkpoint in a directory: those of `*.safetensors.index.json` where there is one, else all
// `*.safetensors`; none where there are none. Error(corrupt) for several indices.
std::vector<std::string> safetensors_files(const Storage& storage, const Path& directory);

// `with_index` holds them against the index beside them.
// Errors  Error(corrupt) for a key in two files, for boxes that leave a hole or overlap, and for a key that an index has and its file
// lacks.
Manifest safetensors_manifest(const Storage& storage, const Path& directory, const std::vector<std::string>& files, bool with_index,
                              const format::Limits& limits);

}  // namespace tessera
