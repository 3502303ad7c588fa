// What an item decompresses to is never more than was allowed.
#include "tessera/format/zstd.h"

#include "fuzz/properties.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  using namespace tessera::fuzz;
  constexpr int64_t most_bytes = 1 << 16;
  const MemorySource source(bytes_of(data, size), "fuzz");
  Bytes content;
  if (!accepted([&] { content = format::decompress_zstd(source, most_bytes); })) return 0;
  require(static_cast<int64_t>(content.size()) <= most_bytes, "no more than was allowed");
  require(format::decompress_zstd(source, most_bytes) == content, "the same bytes decompress to the same");
  return 0;
}
