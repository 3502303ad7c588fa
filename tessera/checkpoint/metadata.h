// tessera/checkpoint/metadata.h: the bytes of a checkpoint's `.metadata`, told apart from a directory that is none.
#pragma once

#include "tessera/base/bytes.h"
#include "tessera/format/limits.h"
#include "tessera/storage/storage.h"

namespace tessera {

// Errors  Error(not_found) with a hint where there is no such directory or no checkpoint in it; Error(limit) for a file larger
//         than the format admits; Error(io).
Bytes read_metadata(const Storage& storage, const Path& directory, const format::Limits& limits = {});

}  // namespace tessera
