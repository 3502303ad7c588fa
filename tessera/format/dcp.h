// tessera/format/dcp.h: the `.metadata` file of a torch.distributed.checkpoint directory.
// Source      torch.distributed.checkpoint.metadata and .filesystem of torch 2.13; layout in docs/format.md.
// Errors      Decoding throws Error(corrupt, unsupported or limit), with the byte where it can name one.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tessera/base/bytes.h"
#include "tessera/format/limits.h"
#include "tessera/manifest/manifest.h"

namespace tessera::format {

inline constexpr const char* metadata_file = ".metadata";

// Decodes stock's form of any release since 2.0, and ours. The result is validated.
// `file` names the bytes in errors: `.metadata`, or `__3.metadata` for what rank 3 alone saved.
Manifest decode_metadata(std::span<const std::byte> bytes, const Limits& limits = {}, const std::string& file = metadata_file);

// The portable constructor-call form, which every release since 2.0 loads. Opens with the string
// "tessera/<writer_version> <save_id>" (BINUNICODE, POP), which stock's pickle.load drops. An entry without a path gets its key as path.
// Errors  Error(invalid_argument) for keys and paths that could not be read again: no UTF-8, not those of one nesting.
Bytes encode_metadata(const Manifest& manifest);
// Makes what encode_metadata() gave for one save that of another, which writes the same into the same places: O(1) where the ids are of one
// length.
// Errors  Error(invalid_argument) for metadata without a save id, and for an id that is no UTF-8.
void set_save_id(Bytes& metadata, const std::string& save_id);

}  // namespace tessera::format
