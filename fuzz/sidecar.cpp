// Sidecars: as they are, and with all their digests made good, without which hardly any input would be looked into; and indexes without the
// sidecar around them. What decodes has one encoding, and what an index says of a key is sound in itself.
#include "tessera/format/sidecar.h"

#include <algorithm>

#include "fuzz/properties.h"
#include "tessera/format/resealed_test.h"
#include "tessera/format/sidecar_index.h"
#include "tessera/format/sidecar_reader.h"

namespace tessera::fuzz {
namespace {

void look_up(const std::string& key, const auto& find) {
  std::optional<Entry> entry;
  if (!accepted([&] { entry = find(key); }) || !entry) return;
  require(!entry->path.empty(), "an entry has a path");
  Manifest manifest;
  manifest.entries[key] = *entry;
  accepted([&] { validate(manifest); });
}

void decode(std::span<const std::byte> bytes) {
  format::Sidecar sidecar;
  if (!accepted([&] { sidecar = format::decode_sidecar(bytes); })) return;
  for (const auto& [name, file] : sidecar.files) {
    const auto blocks = static_cast<int64_t>(file.blocks.size());
    require(blocks == format::block_count(file.length_bytes, sidecar.block_bytes), "a digest for each block");
  }
  const MemorySource source(bytes);
  if (format::SidecarReader::version(source) == 1) {
    if (sidecar.save_id.size() <= 1024)
      require(format::decode_sidecar(format::encode_sidecar(sidecar)) == sidecar, "what version 1 says can be said again");
    return;
  }
  const format::SidecarReader reader(source);
  Bytes index(static_cast<size_t>(reader.index().size_bytes()));
  reader.index().read(0, index);
  require(std::ranges::equal(format::encode_sidecar(sidecar, index), bytes), "decode accepts exactly what encode writes");
  require(reader.whole() == sidecar, "read in parts it says the same");
  if (!reader.has_index()) return;
  for (const char* key : {"", "w", "layers.0.weight"}) look_up(key, [&](const std::string& wanted) { return reader.find(wanted); });
}

void find(std::span<const std::byte> bytes) {
  const std::vector<std::string> files = {"__0_0.distcp", "__1_0.distcp"};
  const MemorySource index(bytes);
  for (const char* key : {"", "w", "layers.0.weight"})
    look_up(key, [&](const std::string& wanted) { return format::find_in_index(index, wanted, files); });
}

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  using namespace tessera::fuzz;
  const auto bytes = bytes_of(data, size);
  decode(bytes);
  Bytes sealed(bytes.begin(), bytes.end());
  decode(format::resealed(sealed));
  sealed.resize(sealed.size() + sizeof(Digest));
  decode(format::resealed(std::move(sealed)));
  find(bytes);
  return 0;
}
