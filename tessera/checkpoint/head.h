// tessera/checkpoint/head.h: what a DCP directory says of itself: `.metadata`, and the sidecar where there is one. Small next to the data,
// so a job's leader reads it for all.
// Trust       A name tag of version 1 in `.metadata` promises a sidecar; a sidecar holds the digest of `.metadata`. Each names the save
//             it belongs to. So a file of the two that is missing, damaged or of another save is an error, and not a silent step down.
// Errors      Error(not_found) with a hint where there is no checkpoint; Error(limit) for files larger than the format admits;
//             Error(corrupt, unsupported) with file and offset; Error(io).
#pragma once

#include <memory>
#include <span>
#include <string>

#include "tessera/base/bytes.h"
#include "tessera/format/limits.h"
#include "tessera/format/sidecar.h"
#include "tessera/manifest/manifest.h"
#include "tessera/storage/storage.h"

namespace tessera {

// The two files as they were read; `sidecar` is empty where there is none.
struct HeadBytes {
  Bytes metadata;
  Bytes sidecar;
};
HeadBytes read_head(const Storage& storage, const Path& directory, const format::Limits& limits = {});

struct Head {
  Manifest manifest;
  std::shared_ptr<const format::Sidecar> sidecar;  // none for what others wrote, and for tessera before sidecars
};
// Decodes both and holds them against each other: save id, digest, and every file and range that the manifest names.
Head decode_head(const HeadBytes& bytes, const format::Limits& limits = {});

// The head of these keys alone; one that is not there is left out. Where the sidecar has an index, this reads some pages of it and the two
// ends of `.metadata`, and not the rest: of the other keys it says nothing, and damage in the middle of `.metadata`, which it does not
// need, is left to read_head() and verify(). Elsewhere it is decode_head(read_head()), cut down. The sidecar has at least the files of
// these keys.
Head read_head_of(const Storage& storage, const Path& directory, std::span<const std::string> keys, const format::Limits& limits = {});

// One file of a directory, whole. Error(limit) above `most_bytes`.
Bytes read_file(const Storage& storage, const Path& path, int64_t most_bytes);

}  // namespace tessera
