#include "tessera/base/digest.h"
#include "tessera/exchange/target.h"
#include "tessera/format/torch_file.h"

namespace tessera {

void write_torch(Selection& selection, Storage& storage, const Path& target, const ConvertOptions& options) {
  std::vector<std::pair<KeyPath, Value>> leaves;
  const auto path_of = [](const auto& selected) { return selected.path.empty() ? KeyPath{selected.key} : selected.path; };
  for (size_t i = 0; i < selection.tensors().size(); ++i) {
    const SelectedTensor& tensor = selection.tensors()[i];
    leaves.emplace_back(path_of(tensor), Value::Tensor{tensor.dtype, tensor.entry->sizes, {}, static_cast<int64_t>(i)});
  }
  for (const SelectedObject& object : selection.objects()) leaves.emplace_back(path_of(object), selection.object(object));
  const format::TorchFileLayout layout(leaves);
  publish_file(storage, target, options.replace, [&](FileWriter& file) {
    std::vector<uint32_t> crcs;
    for (const format::TorchFileLayout::Data& data : layout.data()) {
      int64_t at = data.offset_bytes;
      uint32_t crc = 0;
      const auto put = [&](std::span<const std::byte> bytes) {
        crc = crc32(bytes, crc);
        file.write(at, bytes);
        at += static_cast<int64_t>(bytes.size());
      };
      if (data.place < 0) {
        put(data.bytes);
      } else {
        const SelectedTensor& tensor = selection.tensors()[static_cast<size_t>(data.place)];
        selection.read(tensor, whole(tensor.entry->sizes), put);
      }
      crcs.push_back(crc);
    }
    for (const auto& [at, bytes] : layout.frame(crcs)) file.write(at, bytes);
  });
}

}  // namespace tessera
