#include "tessera/format/zstd.h"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <memory>

namespace tessera::format {
namespace {

constexpr int64_t piece_bytes = int64_t{1} << 20;
constexpr int most_window_log = 27;

}  // namespace

Bytes decompress_zstd(const ByteSource& source, int64_t most_bytes) {
  const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (!context) throw std::bad_alloc();
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, most_window_log);
  Bytes content;
  Bytes compressed;
  Bytes room(static_cast<size_t>(piece_bytes));
  bool ended = false;
  int frames = 0;  // that have ended
  for (int64_t at = 0; at < source.size_bytes();) {
    compressed.resize(static_cast<size_t>(std::min(piece_bytes, source.size_bytes() - at)));
    source.read(at, compressed);
    ZSTD_inBuffer in{compressed.data(), compressed.size(), 0};
    bool full = true;  // a full output may have more behind it
    while (in.pos < in.size || full) {
      if (ended && in.pos == in.size) break;
      ZSTD_outBuffer out{room.data(), room.size(), 0};
      const size_t left = ZSTD_decompressStream(context.get(), &out, &in);
      if (ZSTD_isError(left)) {
        const bool window = ZSTD_getErrorCode(left) == ZSTD_error_frameParameter_windowTooLarge;
        throw Error({.code = window ? Code::limit : Code::corrupt,
                     .what = std::string("a zstd frame that does not decompress: ") + ZSTD_getErrorName(left),
                     .file = source.file(),
                     .offset_bytes = source.origin_bytes() + at});
      }
      full = out.pos == out.size;
      if (frames > 0 && out.pos > 0) throw corrupt_at(source, at + static_cast<int64_t>(in.pos), "a second zstd frame with content");
      if (static_cast<int64_t>(out.pos) > most_bytes - static_cast<int64_t>(content.size())) {
        throw Error({.code = Code::limit,
                     .what = "a zstd frame of more than " + std::to_string(most_bytes) + " bytes",
                     .file = source.file(),
                     .offset_bytes = source.origin_bytes()});
      }
      content.insert(content.end(), room.begin(), room.begin() + static_cast<std::ptrdiff_t>(out.pos));
      ended = left == 0;
      frames += ended ? 1 : 0;
    }
    at += static_cast<int64_t>(in.pos);
  }
  if (!ended) throw corrupt_at(source, source.size_bytes(), "a zstd frame that ends early");
  return content;
}

}  // namespace tessera::format
