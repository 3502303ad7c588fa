// Sidecars: as they are, and under a seal of their own, without which hardly any input would be looked into. What decodes has one encoding.
#include "tessera/format/sidecar.h"

#include <algorithm>

#include "fuzz/properties.h"

namespace tessera::fuzz {
namespace {

void decode(std::span<const std::byte> bytes) {
  format::Sidecar sidecar;
  if (!accepted([&] { sidecar = format::decode_sidecar(bytes); })) return;
  require(std::ranges::equal(format::encode_sidecar(sidecar), bytes), "decode accepts exactly what encode writes");
  for (const auto& [name, file] : sidecar.files) {
    const auto blocks = static_cast<int64_t>(file.blocks.size());
    require(blocks == format::block_count(file.length_bytes, sidecar.block_bytes), "a digest for each block");
  }
}

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  using namespace tessera::fuzz;
  const auto bytes = bytes_of(data, size);
  decode(bytes);
  const Digest seal = digest(bytes);
  Bytes sealed(bytes.begin(), bytes.end());
  sealed.insert(sealed.end(), seal.begin(), seal.end());
  decode(sealed);
  return 0;
}
