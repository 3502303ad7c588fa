#include "tessera/plan/save_plan.h"

#include <algorithm>

#include "tessera/plan/collect.h"
#include "tessera/plan/plan_builder.h"

namespace tessera {
namespace {

// Every box of a tensor of the table, in the order of boxes; replicas by rank.
std::vector<RankBox> held_boxes(const LayoutTable::Tensor& tensor, int ranks) {
  std::vector<RankBox> boxes = boxes_of_all(tensor.layout, tensor.sizes, ranks);
  if (!std::ranges::is_sorted(boxes, {}, &RankBox::box)) std::ranges::stable_sort(boxes, {}, &RankBox::box);
  return boxes;
}

SavePlan plan_table(const LayoutTable& table, const std::vector<Description>& locals, PlanBuilder builder, const std::string& save_id) {
  if (static_cast<int64_t>(locals.size()) != table.ranks)
    throw Error({.code = Code::internal, .what = "layouts for another number of ranks than there are"});
  const std::vector<Collected> own = collect(locals);
  std::vector<Holder> everyone;
  for (int r = 0; r < table.ranks; ++r) everyone.push_back({r, -1});
  auto next = own.begin();
  for (const auto& [key, entry] : table.entries) {
    for (; next != own.end() && *next->key < key; ++next) add(builder, *next);
    if (next != own.end() && *next->key == key)
      throw Error({.code = Code::invalid_argument, .what = "two values under the key '" + key + "'"});
    if (const auto* object = std::get_if<LayoutTable::Object>(&entry.is)) {
      builder.add_object(key, entry.path, object->length_bytes, everyone);
    } else {
      const auto& tensor = std::get<LayoutTable::Tensor>(entry.is);
      const auto boxes = [&tensor, ranks = table.ranks] { return held_boxes(tensor, ranks); };
      builder.add_tensor(key, entry.path, tensor.dtype, tensor.sizes, boxes, is_alike(tensor.layout));
    }
  }
  for (; next != own.end(); ++next) add(builder, *next);
  return builder.finish(save_id);
}

}  // namespace

SavePlan plan_save(std::span<const Description> ranks, const std::string& save_id) {
  const std::vector<Collected> keys = collect(ranks);
  PlanBuilder builder(static_cast<int>(ranks.size()));
  for (const Collected& all : keys) add(builder, all);
  return builder.finish(save_id);
}

SavePlan plan_save(const LayoutTable& table, const std::vector<Description>& locals, const std::string& save_id) {
  return plan_table(table, locals, PlanBuilder(table.ranks), save_id);
}

RankWrites writes_of(const LayoutTable& table, const std::vector<Description>& locals, int rank) {
  SavePlan plan = plan_table(table, locals, PlanBuilder(table.ranks, rank), {});
  return std::move(plan.ranks.at(static_cast<size_t>(rank)));
}

std::vector<std::vector<HeldBox>> replicated_boxes(const std::vector<Description>& ranks) {
  std::vector<std::vector<HeldBox>> replicated(ranks.size());
  for (const Collected& all : collect(ranks)) {
    if (!std::holds_alternative<TensorPart>(all.held.front().part->is)) continue;
    const std::vector<RankBox> boxes = held_boxes(all);
    for (size_t i = 0; i < boxes.size(); ++i) {
      const auto& [box, rank, index] = boxes[i];
      const bool again = (i > 0 && boxes[i - 1].box == box) || (i + 1 < boxes.size() && boxes[i + 1].box == box);
      if (again && volume(box) > 0) replicated[static_cast<size_t>(rank)].push_back({*all.key, index});
    }
  }
  return replicated;
}

Bytes encode(const RankWrites& writes) {
  ByteWriter out;
  out.put_string(writes.file);
  out.put(writes.file_bytes);
  out.put<uint64_t>(writes.items.size());
  for (const WriteItem& item : writes.items) {
    out.put_string(item.key);
    out.put(item.box);
    out.put(item.length_bytes);
    out.put(item.rows.first);
    out.put(item.rows.count);
  }
  return out.take();
}

RankWrites decode_rank_writes(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  RankWrites writes;
  writes.file = in.get_string();
  writes.file_bytes = in.get<int64_t>();
  const size_t count = in.get_count(1);
  for (size_t i = 0; i < count; ++i) {
    WriteItem item;
    item.key = in.get_string();
    item.box = in.get<int32_t>();
    item.length_bytes = in.get<int64_t>();
    item.rows.first = in.get<int64_t>();
    item.rows.count = in.get<int64_t>();
    writes.items.push_back(std::move(item));
  }
  return writes;
}

}  // namespace tessera
