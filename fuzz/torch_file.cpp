// torch.save files of both forms, opened and loaded as any checkpoint is; what was loaded is the same once written and loaded again.
#include "tessera/format/torch_file.h"

#include <algorithm>

#include "fuzz/tensors.h"
#include "tessera/checkpoint/checkpoint.h"
#include "tessera/storage/memory_storage.h"

namespace tessera::fuzz {
namespace {

constexpr int64_t most_bytes = 1 << 18;  // of tensors that are loaded

std::shared_ptr<const Storage> holding(std::span<const std::byte> bytes) {
  const auto storage = std::make_shared<MemoryStorage>();
  const auto file = storage->create("file");
  file->write(0, bytes);
  file->close();
  return storage;
}

// Path → value, tensors with their elements. Nothing where it is refused or more than is tried here.
using Leaves = std::vector<std::pair<KeyPath, Value>>;
std::optional<Leaves> load(std::span<const std::byte> bytes) {
  std::optional<Leaves> leaves;
  accepted([&] {
    const Checkpoint checkpoint = Checkpoint::open(holding(bytes), "file");
    int64_t total = 0;
    for (const auto& [key, entry] : checkpoint.manifest().entries) {
      if (const auto* tensor = std::get_if<TensorEntry>(&entry.is))
        total = checked_add(total, checked_multiply(checked_volume(tensor->sizes), element_bytes(tensor->dtype)));
    }
    if (total > most_bytes) return;
    Leaves found;
    for (const auto& [key, leaf] : checkpoint.load().leaves) {
      if (const auto* object = std::get_if<Value>(&leaf.is)) {
        found.emplace_back(leaf.path, *object);
        continue;
      }
      const View& view = std::get<TensorLeaf>(leaf.is).shards.at(0).view;
      found.emplace_back(leaf.path, Value::Tensor{view.dtype, view.sizes, Bytes(view.data, view.data + tessera::bytes_of(view))});
    }
    leaves = std::move(found);
  });
  return leaves;
}

Bytes written(const format::TorchFileLayout& layout) {
  Bytes out;
  const auto put = [&](int64_t at, std::span<const std::byte> bytes) {
    out.resize(std::max(out.size(), static_cast<size_t>(at) + bytes.size()));
    std::ranges::copy(bytes, out.begin() + at);
  };
  std::vector<uint32_t> crcs;
  for (const format::TorchFileLayout::Data& data : layout.data()) {
    require(static_cast<int64_t>(data.bytes.size()) == data.size_bytes, "data is as long as planned");
    put(data.offset_bytes, data.bytes);
    crcs.push_back(crc32(data.bytes));
  }
  for (const auto& [at, bytes] : layout.frame(crcs)) put(at, bytes);
  return out;
}

void find_tensors(const ByteSource& source) {
  format::TorchFile file;
  if (!accepted([&] { file = format::read_torch_file(source, {.nodes = 20'000}); })) return;
  for (const format::TensorItem& tensor : file.tensors) check_places(tensor, source.size_bytes());
  for (const auto& [key, leaf] : file.leaves) {
    require(key == join(leaf.path), "a leaf's key is its path");
    if (const auto* place = std::get_if<size_t>(&leaf.is)) require(*place < file.tensors.size(), "a leaf's tensor is there");
  }
}

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  using namespace tessera::fuzz;
  const auto bytes = bytes_of(data, size);
  find_tensors(MemorySource(bytes, "fuzz"));
  const auto leaves = load(bytes);
  if (!leaves) return 0;
  std::optional<format::TorchFileLayout> layout;
  if (!accepted([&] { layout.emplace(*leaves); }, {Code::unsupported, Code::limit, Code::invalid_argument})) return 0;
  require(load(written(*layout)) == leaves, "a file is the same once written and read");
  return 0;
}
