// tessera/format/zstd.h: what stock's stream extension "stream.zstd/1" wrote: one zstd frame for each item, and after some an empty one
// (2.9 closes its stream twice).
#pragma once

#include "tessera/base/byte_source.h"

namespace tessera::format {

inline constexpr const char* zstd_transform = "stream.zstd/1";

// Errors  Error(corrupt) unless the source is one sound frame and at most empty ones after it, Error(limit) where that has more than
// `most_bytes` of
//         content or asks for a window of more than 128 MiB.
Bytes decompress_zstd(const ByteSource& source, int64_t most_bytes);

}  // namespace tessera::format
