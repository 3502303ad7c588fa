// The index of safetensors files: what it names is beside it, and a directory that opens has every key where the index says.
#include <algorithm>

#include "fuzz/properties.h"
#include "tessera/checkpoint/open.h"
#include "tessera/format/safetensors.h"
#include "tessera/storage/memory_storage.h"

namespace tessera::fuzz {
namespace {

void put(Storage& storage, const Path& file, std::span<const std::byte> bytes) {
  const auto writer = storage.create(file);
  writer->write(0, bytes);
  writer->close();
}

Bytes safetensors_with(const std::string& key) {
  std::vector<format::SafeTensor> tensors = {{key, DType::float32, {2, 3}}};
  Bytes bytes = format::lay_out_safetensors(tensors);
  bytes.resize(bytes.size() + 24);
  return bytes;
}

// Two files, "a" with the tensor "w" and "b" with "v", beside the index.
void open_beside(std::span<const std::byte> index) {
  const auto storage = std::make_shared<MemoryStorage>();
  put(*storage, "a", safetensors_with("w"));
  put(*storage, "b", safetensors_with("v"));
  put(*storage, "model.safetensors.index.json", index);
  Opened opened;
  if (!accepted([&] { opened = open_at(storage, ""); }, {Code::corrupt, Code::unsupported, Code::limit, Code::not_found})) return;
  for (const auto& [key, file] : format::read_weight_map(index, "index")) {
    const auto& entry = std::get<TensorEntry>(opened.manifest.entries.at(key).is);
    require(entry.chunks.size() == 1 && entry.chunks[0].at.file == file, "each key is in the file that the index says");
  }
}

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  using namespace tessera::fuzz;
  const auto bytes = bytes_of(data, size);
  open_beside(bytes);
  format::WeightMap map;
  if (!accepted([&] { map = format::read_weight_map(bytes, "index"); })) return 0;
  for (const auto& [key, file] : map) {
    require(!file.empty() && file.find('/') == std::string::npos && file != "..", "a file that the index names is beside it");
  }
  require(format::read_weight_map(format::write_weight_map(map, 0), "again") == map, "an index is the same once written and read");
  return 0;
}
