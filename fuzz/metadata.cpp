// `.metadata`: what decodes satisfies what every manifest must, and is the same once encoded and decoded again.
#include "fuzz/properties.h"
#include "tessera/format/dcp.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  using namespace tessera::fuzz;
  const format::Limits limits{.nodes = 50'000};
  Manifest manifest;
  if (!accepted([&] { manifest = format::decode_metadata(bytes_of(data, size), limits); })) return 0;
  validate(manifest);
  const Bytes encoded = format::encode_metadata(manifest);
  require(format::decode_metadata(encoded) == manifest, "a manifest is the same once encoded and decoded");
  require(format::encode_metadata(format::decode_metadata(encoded)) == encoded, "one manifest has one encoding");
  return 0;
}
