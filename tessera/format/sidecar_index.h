// tessera/format/sidecar_index.h: what `.metadata` says of each key, in a form in which one key is found without reading the others. It is
// the last part of a sidecar. Layout, byte by byte, in docs/format.md.
// Promises    encode_index() has one encoding for a manifest, and it depends on neither the save id nor the content of files.
// Errors      Error(corrupt) that names the sidecar. Nothing is allocated from a number that the index's own size does not bear out.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "tessera/base/byte_source.h"
#include "tessera/manifest/manifest.h"

namespace tessera::format {

// `files` has every file that the manifest names, ascending.
Bytes encode_index(const Manifest& manifest, std::span<const std::string> files);

// What the index has under `key`; nothing where it does not have it. The entry is sound in itself; validate() has yet to see it.
// Cost        Some log2(keys) small reads, and one of what there is of the key.
std::optional<Entry> find_in_index(const ByteSource& index, const std::string& key, std::span<const std::string> files);

}  // namespace tessera::format
