#include "tessera/transfer/open_items.h"

namespace tessera {
namespace {

// The message of a parser that knows bytes, told as one about a key.
template <class Work>
auto about(const std::string& key, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    Fault fault = error.fault();
    fault.what = "'" + key + "': " + fault.what;
    throw Error(std::move(fault));
  }
}

}  // namespace

std::shared_ptr<const ByteSource> OpenItems::file(const std::string& name) {
  return files_.with([&](auto& files) {
    auto& file = files[name];
    if (!file) file = storage_.open(directory_.empty() ? name : directory_ + "/" + name);
    return file;
  });
}

PartSource OpenItems::part(const std::string& key, const ByteSource& file, const Extent& at) const {
  if (!at.transforms.empty()) {
    throw Error({.code = Code::unsupported,
                 .what = "'" + key + "' was written through '" + at.transforms.front() + "', which this release does not undo",
                 .file = at.file,
                 .offset_bytes = at.offset_bytes});
  }
  return PartSource(file, at.offset_bytes, at.length_bytes);
}

OpenItem OpenItems::tensor(const std::string& key, const TensorEntry& entry, const Chunk& chunk) {
  return about(key, [&] {
    OpenItem open{file(chunk.at.file), nullptr, {}};
    open.item = std::make_shared<PartSource>(part(key, *open.file, chunk.at));
    open.tensor = format::read_tensor_item(*open.item);
    const auto differs = [&](const std::string& what) { return corrupt_at(*open.item, 0, what); };
    if (open.tensor.dtype != entry.dtype) {
      throw differs("the item is " + std::string(name(open.tensor.dtype)) + ", the metadata says " + std::string(name(entry.dtype)));
    }
    if (open.tensor.sizes != chunk.box.sizes) {
      throw differs("the item has shape " + to_string(open.tensor.sizes) + ", the metadata says " + to_string(chunk.box.sizes));
    }
    return open;
  });
}

Value OpenItems::object(const std::string& key, const ObjectEntry& entry) {
  return about(key, [&] {
    const auto source = file(entry.at.file);
    return format::read_object_item(part(key, *source, entry.at));
  });
}

}  // namespace tessera
