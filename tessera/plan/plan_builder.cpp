#include "tessera/plan/plan_builder.h"

#include <algorithm>

#include "tessera/base/checked.h"
#include "tessera/base/parallel.h"

namespace tessera {
namespace {

constexpr int64_t boxes_a_thread = 1 << 16;  // some 10 ms of work
constexpr int64_t least_part_bytes = 16 << 20;  // a few blocks: below, one more chunk to keep account of is no gain
constexpr size_t keys_at_once = 16;          // neighbours are alike: one works out the frames of their shapes

void add_length(int64_t& total, int64_t length_bytes) { total = checked_add(total, length_bytes, Code::invalid_argument); }

Holder holder_of(const RankBox& held) { return {held.rank, held.index}; }

bool is_whole(const Box& box, const Sizes& sizes) {
  return box.sizes == sizes && std::ranges::all_of(box.offsets, [](int64_t at) { return at == 0; });
}

}  // namespace

// What can be said of one key without the others.
class PlanBuilder::Preparation {
 public:
  explicit Preparation(bool with_chunks) : with_chunks_(with_chunks) {}

  void run(Key& key) {
    if (std::holds_alternative<ObjectEntry>(key.is)) return;
    auto& tensor = std::get<TensorEntry>(key.is);
    const std::vector<RankBox> boxes = key.boxes();  // which finds shapes that no tensor has
    int64_t bytes = 0;
    if (__builtin_mul_overflow(volume(tensor.sizes), element_bytes(tensor.dtype), &bytes))
      throw Error({.code = Code::invalid_argument, .what = "the bytes of '" + *key.key + "' overflow 64 bits"});
    const bool empty = volume(tensor.sizes) == 0;
    key.items.reserve(boxes.size());
    if (with_chunks_ && !empty) tensor.chunks.reserve(boxes.size());
    for (auto first = boxes.begin(); first != boxes.end();) {
      const auto last = std::find_if(first + 1, boxes.end(), [&](const RankBox& held) { return held.box != first->box; });
      // Whoever holds an empty view of the whole may own it; it has no bytes to differ in.
      if (empty ? is_whole(first->box, tensor.sizes) : volume(first->box) > 0) add(key, tensor, std::span(first, last));
      first = last;
    }
    if (empty && key.items.empty()) {
      throw Error({.code = Code::invalid_argument,
                   .what = "no rank holds the empty tensor '" + *key.key + "'",
                   .hint = "rank 0 gives its one empty box"});
    }
    if (with_chunks_ && !empty) check_tiling(*key.key, tensor, Code::invalid_argument);
  }

 private:
  void add(Key& key, TensorEntry& tensor, std::span<const RankBox> replicas) {
    const Box& box = replicas.front().box;
    Item item{frames_.of(tensor.dtype, box.sizes).length_bytes, holder_of(replicas.front())};
    if (replicas.size() > 1 && key.alike) {
      item.first_holder = static_cast<uint32_t>(key.holders.size());
      for (size_t i = 0; i < replicas.size(); ++i) {
        if (i == 0 || replicas[i].rank != replicas[i - 1].rank) key.holders.push_back(holder_of(replicas[i]));
      }
      item.holders = static_cast<uint32_t>(key.holders.size()) - item.first_holder;
    }
    key.items.push_back(item);
    if (with_chunks_) tensor.chunks.emplace_back(box, Extent{});
  }

  const bool with_chunks_;
  format::ItemFrames frames_;
};

PlanBuilder::PlanBuilder(int ranks, std::optional<int> only) : ranks_(ranks), only_(only) {}

void PlanBuilder::add_object(const std::string& key, const KeyPath& path, int64_t length_bytes, std::vector<Holder> holders) {
  if (length_bytes < 0) throw Error({.code = Code::invalid_argument, .what = "the object '" + key + "' has a negative length"});
  const Item item{length_bytes, holders.front(), 0, static_cast<uint32_t>(holders.size())};
  keys_.push_back({&key, &path, ObjectEntry{}, {}, true, {item}, std::move(holders)});
}

void PlanBuilder::add_tensor(const std::string& key, const KeyPath& path, DType dtype, const Sizes& sizes, Boxes boxes, bool alike) {
  keys_.push_back({&key, &path, TensorEntry{dtype, sizes, {}}, std::move(boxes), alike});
}

// Cuts what several hold and is large beside what each rank has to write into rows, so that choose_owners() can be fair with it.
void PlanBuilder::cut_large() {
  int64_t all_bytes = 0;
  for (const Key& key : keys_) {
    for (const Item& item : key.items) add_length(all_bytes, item.length_bytes);
  }
  // Nothing that stays whole is then larger than a quarter of a rank's share, and no rank writes more than that above it, where everybody
  // holds everything and there are rows enough.
  const int64_t least_bytes = std::max(least_part_bytes, all_bytes / ranks_ / 8);
  format::ItemFrames frames;
  for (Key& key : keys_) {
    const auto is_large = [&](const Item& item) { return item.holders > 1 && item.length_bytes >= 2 * least_bytes; };
    if (std::holds_alternative<TensorEntry>(key.is) && std::ranges::any_of(key.items, is_large)) cut_large(key, least_bytes, frames);
  }
}

void PlanBuilder::cut_large(Key& key, int64_t least_bytes, format::ItemFrames& frames) const {
  const DType dtype = std::get<TensorEntry>(key.is).dtype;
  const std::vector<RankBox> boxes = key.boxes();
  std::vector<std::pair<Box, Item>> parts;
  for (const Item& item : key.items) {
    const auto held = std::ranges::find_if(boxes, [&](const RankBox& b) { return b.rank == item.owner.rank && b.index == item.owner.box; });
    const Box& box = held->box;
    const int64_t rows = rows_in(box.sizes);
    const int64_t most = item.holders > 1 ? std::min<int64_t>(item.holders, item.length_bytes / least_bytes) : 1;
    const int64_t count = std::clamp<int64_t>(most, 1, rows);
    if (count == 1) {
      parts.emplace_back(box, item);
      continue;
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t first = rows / count * i + std::min(i, rows % count);
      Item part = item;
      part.rows = {first, rows / count + (i < rows % count ? 1 : 0)};
      const Box some = slice(box, part.rows);
      part.length_bytes = frames.of(dtype, some.sizes).length_bytes;
      parts.emplace_back(some, part);
    }
  }
  std::ranges::sort(parts, {}, [](const auto& part) -> const Box& { return part.first; });
  key.items.clear();
  for (const auto& [box, item] : parts) key.items.push_back(item);
  if (only_) return;
  auto& chunks = std::get<TensorEntry>(key.is).chunks;
  chunks.clear();
  for (const auto& [box, item] : parts) chunks.emplace_back(box, Extent{});
}

// Items with one holder are its own; the others go, largest first, to the holder with the fewest bytes so far.
void PlanBuilder::choose_owners() {
  struct Shared {
    Item* item;
    std::span<const Holder> holders;
  };
  std::vector<Shared> shared;
  std::vector<int64_t> load(static_cast<size_t>(ranks_), 0);
  const auto load_of = [&](const Holder& holder) -> int64_t& { return load[static_cast<size_t>(holder.rank)]; };
  for (Key& key : keys_) {
    for (Item& item : key.items) {
      if (item.holders > 1) shared.push_back({&item, std::span(key.holders).subspan(item.first_holder, item.holders)});
      else add_length(load_of(item.owner), item.length_bytes);
    }
  }
  std::ranges::stable_sort(shared, std::greater{}, [](const Shared& one) { return one.item->length_bytes; });
  for (const auto& [item, holders] : shared) {
    item->owner = *std::ranges::min_element(holders, {}, load_of);
    add_length(load_of(item->owner), item->length_bytes);
  }
}

// Each item at the end of its owner's file.
void PlanBuilder::place(Key& key, SavePlan& plan) const {
  for (size_t i = 0; i < key.items.size(); ++i) {
    const Item& item = key.items[i];
    if (only_ && item.owner.rank != *only_) continue;
    RankWrites& writes = plan.ranks[static_cast<size_t>(item.owner.rank)];
    writes.items.push_back({*key.key, item.owner.box, item.length_bytes, item.rows});
    if (!only_) {
      auto* const tensor = std::get_if<TensorEntry>(&key.is);
      Extent& at = tensor ? tensor->chunks[i].at : std::get<ObjectEntry>(key.is).at;
      at.file = writes.file;
      at.offset_bytes = writes.file_bytes;
      at.length_bytes = item.length_bytes;
    }
    add_length(writes.file_bytes, item.length_bytes);
  }
}

SavePlan PlanBuilder::finish(const std::string& save_id) {
  const size_t batches = (keys_.size() + keys_at_once - 1) / keys_at_once;
  const int threads = only_ ? 1 : threads_for(static_cast<int64_t>(keys_.size()) * ranks_, boxes_a_thread);
  in_parallel(batches, threads, [&](size_t batch) {
    Preparation preparation(!only_);
    for (size_t k = batch * keys_at_once; k < std::min(keys_.size(), (batch + 1) * keys_at_once); ++k) preparation.run(keys_[k]);
  });
  cut_large();
  choose_owners();
  SavePlan plan;
  plan.manifest.writer_version = 1;  // a sidecar goes with it
  plan.manifest.save_id = save_id;
  std::vector<size_t> counts(static_cast<size_t>(ranks_), 0);
  for (const Key& key : keys_) {
    for (const Item& item : key.items) ++counts[static_cast<size_t>(item.owner.rank)];
  }
  for (size_t r = 0; r < counts.size(); ++r) {
    plan.ranks.push_back({"__" + std::to_string(r) + "_0.distcp", {}, 0});
    if (!only_ || static_cast<int>(r) == *only_) plan.ranks.back().items.reserve(counts[r]);
  }
  // Objects stand before tensors in a file, as stock writes them: a reader of objects then touches its beginning only.
  for (const bool objects : {true, false}) {
    for (Key& key : keys_) {
      if (std::holds_alternative<ObjectEntry>(key.is) == objects) place(key, plan);
    }
  }
  if (only_) return plan;
  for (Key& key : keys_) {
    auto entry = std::visit([&](auto& is) { return Entry{*key.path, std::move(is)}; }, key.is);
    plan.manifest.entries.emplace_hint(plan.manifest.entries.end(), *key.key, std::move(entry));
  }
  keys_.clear();
  return plan;
}

}  // namespace tessera
