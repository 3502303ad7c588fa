#include "tessera/transfer/items.h"

#include "tessera/storage/names.h"

namespace tessera {

ReadCount read_item(const OpenItem& open, const Box& from, const View& into, CrcProgress* progress) {
  ReadCount count = in_item(open, [&](const ByteSource& item) { return read_box(item, open.tensor, from, into, progress); });
  if (open.checked) count.unverified_bytes = 0;
  return count;
}

std::shared_ptr<const ByteSource> OpenFiles::file(const std::string& name) const {
  return files_.with([&](auto& files) {
    if (const auto known = files.find(name); known != files.end()) return known->second;
    if (files.size() >= most_open_files) files.clear();  // those in use stay open until they are not
    std::shared_ptr<const ByteSource> file = storage_->open(below(directory_, name));
    if (sidecar_) file = std::make_shared<CheckedSource>(std::move(file), name, sidecar_, cache_);
    return files[name] = std::move(file);
  });
}

}  // namespace tessera
