#include "tessera/plan/layout_table.h"

namespace tessera {

std::optional<LayoutTable> layout_table(const Described& mine, int ranks) {
  LayoutTable table{.ranks = ranks, .entries = {}};
  for (const auto& [key, part] : mine.description) {
    LayoutTable::Entry entry{part.path, LayoutTable::Object{}};
    if (const auto* tensor = std::get_if<TensorPart>(&part.is)) {
      const std::optional<Layout>& layout = mine.tensors.at(key)->layout;
      if (!layout) return std::nullopt;
      entry.is = LayoutTable::Tensor{tensor->dtype, tensor->sizes, *layout};
    } else {
      if (mine.rank_local.contains(key)) continue;
      entry.is = LayoutTable::Object{std::get<ObjectPart>(part.is).length_bytes};
    }
    table.entries.emplace_hint(table.entries.end(), key, std::move(entry));
  }
  return table;
}

Digest digest_of(const LayoutTable& table) {
  ByteWriter out;
  out.put<int64_t>(table.ranks);
  for (const auto& [key, entry] : table.entries) {
    out.put_string(key);
    put_path(out, key, entry.path);
    out.put(static_cast<uint8_t>(entry.is.index()));
    if (const auto* tensor = std::get_if<LayoutTable::Tensor>(&entry.is)) {
      out.put(tensor->dtype);
      out.put_list<int64_t>(tensor->sizes);
      encode(tensor->layout, out);
    } else {
      out.put(std::get<LayoutTable::Object>(entry.is).length_bytes);
    }
  }
  return digest(out.take());
}

Description description_of(const LayoutTable& table, int rank) {
  Description description;
  for (const auto& [key, entry] : table.entries) {
    Part part{entry.path, {}};
    if (const auto* tensor = std::get_if<LayoutTable::Tensor>(&entry.is))
      part.is = TensorPart{tensor->dtype, tensor->sizes, boxes_of(tensor->layout, tensor->sizes, rank, table.ranks)};
    else part.is = ObjectPart{std::get<LayoutTable::Object>(entry.is).length_bytes, {}};
    description.emplace_hint(description.end(), key, std::move(part));
  }
  return description;
}

Description rank_local_objects(const Described& mine) {
  Description objects;
  for (const std::string& key : mine.rank_local) objects.emplace(key, mine.description.at(key));
  return objects;
}

}  // namespace tessera
