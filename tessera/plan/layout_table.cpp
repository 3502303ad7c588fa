#include "tessera/plan/layout_table.h"

namespace tessera {
namespace {

// What a digest covers of a key, which is a tensor (0) or an object (1).
void put_key(ByteWriter& out, const std::string& key, const KeyPath& path, size_t is) {
  out.put_string(key);
  put_path(out, key, path);
  out.put(static_cast<uint8_t>(is));
}

void put_tensor(ByteWriter& out, DType dtype, const Sizes& sizes, const Layout& layout) {
  out.put(dtype);
  out.put_list<int64_t>(sizes);
  encode(layout, out);
}

}  // namespace

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
    put_key(out, key, entry.path, entry.is.index());
    if (const auto* tensor = std::get_if<LayoutTable::Tensor>(&entry.is)) put_tensor(out, tensor->dtype, tensor->sizes, tensor->layout);
    else out.put(std::get<LayoutTable::Object>(entry.is).length_bytes);
  }
  return digest(out.take());
}

std::optional<Digest> table_digest(const Described& mine, int ranks) {
  ByteWriter out;
  out.put<int64_t>(ranks);
  auto next = mine.tensors.begin();  // the description's tensors, in its order
  for (const auto& [key, part] : mine.description) {
    if (const auto* tensor = std::get_if<TensorPart>(&part.is)) {
      const std::optional<Layout>& layout = (next++)->second->layout;
      if (!layout) return std::nullopt;
      put_key(out, key, part.path, 0);
      put_tensor(out, tensor->dtype, tensor->sizes, *layout);
    } else if (!mine.rank_local.contains(key)) {
      put_key(out, key, part.path, 1);
      out.put(std::get<ObjectPart>(part.is).length_bytes);
    }
  }
  return digest(out.take());
}

Description description_of(const LayoutTable& table, int rank) {
  Description description;
  for (const auto& [key, entry] : table.entries) {
    Part part{entry.path, {}};
    if (const auto* tensor = std::get_if<LayoutTable::Tensor>(&entry.is))
      part.is = TensorPart{
          tensor->dtype, tensor->sizes, boxes_of(tensor->layout, tensor->sizes, rank, table.ranks), {}, is_alike(tensor->layout)};
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
