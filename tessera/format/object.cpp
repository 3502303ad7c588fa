// Objects of item.h: Python's plain values as a torch.save archive, and back.
#include "tessera/base/digest.h"
#include "tessera/format/archive.h"
#include "tessera/format/item.h"
#include "tessera/format/value_pickle.h"

namespace tessera::format {

Bytes write_object_item(const Value& value) {
  if (const auto* opaque = value.as<Value::Opaque>()) return opaque->archive;
  ValuePickler pickler;
  pickler.put(value);
  ZipLayout layout;
  ByteWriter archive;
  const auto add = [&](const std::string& name, std::span<const std::byte> bytes, bool aligned) {
    layout.add(name, static_cast<int64_t>(bytes.size()), crc32(bytes), aligned);
    archive.put_raw(layout.header());
    archive.put_raw(bytes);
  };
  add("archive/data.pkl", pickler.finish(), false);
  add("archive/byteorder", as_bytes("little"), false);
  add("archive/version", as_bytes("3\n"), false);
  for (size_t i = 0; i < pickler.tensors().size(); ++i) add("archive/data/" + std::to_string(i), pickler.tensors()[i]->data, true);
  archive.put_raw(layout.directory());
  return archive.take();
}

Value read_object_item(const ByteSource& item) {
  return parse(item, [&]() -> Value {
    const ArchiveReader archive(item);
    archive.check();
    const Pickle pickle = archive.pickle(item.size_bytes());
    try {
      if (pickle.is_cyclic()) throw Unknown{made_by(pickle.root())};
      return decode_value(pickle.root(), archive);
    } catch (const Unknown& unknown) {
      Value::Opaque opaque{unknown.global, std::vector<std::byte>(static_cast<size_t>(item.size_bytes()))};
      item.read(0, opaque.archive);
      return opaque;
    }
  });
}

}  // namespace tessera::format
