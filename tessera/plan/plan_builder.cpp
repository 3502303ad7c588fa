#include "tessera/plan/plan_builder.h"

#include <algorithm>
#include <functional>

#include "tessera/base/checked.h"

namespace tessera {
namespace {

void add_length(int64_t& total, int64_t length_bytes) { total = checked_add(total, length_bytes, Code::invalid_argument); }

}  // namespace

PlanBuilder::PlanBuilder(int ranks, std::optional<int> only) : ranks_(ranks), only_(only), load_(static_cast<size_t>(ranks), 0) {}

void PlanBuilder::add_object(const std::string& key, const KeyPath& path, int64_t length_bytes, std::span<const Holder> holders) {
  if (length_bytes < 0) throw Error({.code = Code::invalid_argument, .what = "the object '" + key + "' has a negative length"});
  const size_t first = holders_.size();
  holders_.insert(holders_.end(), holders.begin(), holders.end());
  add_item(length_bytes, first);
  keys_.push_back({&key, &path, ObjectEntry{}, items_.size()});
}

void PlanBuilder::add_tensor(const std::string& key, const KeyPath& path, DType dtype, const Sizes& sizes, std::span<const HeldBy> boxes) {
  const bool empty = volume(sizes) == 0;
  int64_t bytes = 0;
  if (__builtin_mul_overflow(volume(sizes), element_bytes(dtype), &bytes))
    throw Error({.code = Code::invalid_argument, .what = "the bytes of '" + key + "' overflow 64 bits"});
  TensorEntry entry{dtype, sizes, {}};
  if (!empty && !only_) entry.chunks.reserve(boxes.size());
  for (size_t i = 0; i < boxes.size();) {
    const Box& box = boxes[i].box;
    const size_t first_holder = holders_.size();
    size_t last = i;
    for (; last < boxes.size() && (last == i || boxes[last].box == box); ++last) {
      const Holder& holder = boxes[last].holder;
      if (holders_.size() == first_holder || holders_.back().rank != holder.rank) holders_.push_back(holder);
    }
    i = last;
    // Whoever holds an empty view of the whole may own it; it has no bytes to differ in.
    const bool written =
        empty ? box.sizes == sizes && std::ranges::all_of(box.offsets, [](int64_t at) { return at == 0; }) : volume(box) > 0;
    if (!written) {
      holders_.resize(first_holder);
      continue;
    }
    const int64_t length_bytes = frames_.of(dtype, box.sizes).length_bytes;
    add_item(length_bytes, first_holder);
    if (!only_) entry.chunks.push_back({box, {}});
  }
  if (empty && items_.size() == items_end()) {
    throw Error(
        {.code = Code::invalid_argument, .what = "no rank holds the empty tensor '" + key + "'", .hint = "rank 0 gives its one empty box"});
  }
  if (!empty && !only_) check_tiling(key, entry, Code::invalid_argument);
  keys_.push_back({&key, &path, std::move(entry), items_.size()});
}

// An item whose holders are the last of holders_. Those of a single one need not be remembered.
void PlanBuilder::add_item(int64_t length_bytes, size_t first_holder) {
  const Holder& first = holders_.at(first_holder);
  items_.push_back({length_bytes, first});
  const size_t count = holders_.size() - first_holder;
  if (count > 1) {
    shared_.push_back({items_.size() - 1, length_bytes, first_holder, count});
  } else {
    add_length(load_[static_cast<size_t>(first.rank)], length_bytes);
    holders_.pop_back();
  }
}

// Items with one holder are its own; the others go, largest first, to the holder with the fewest bytes so far.
void PlanBuilder::choose_owners() {
  std::ranges::stable_sort(shared_, std::greater{}, &Shared::length_bytes);
  for (const Shared& shared : shared_) {
    const auto holders = std::span(holders_).subspan(shared.first_holder, shared.holders);
    const Holder& owner = *std::ranges::min_element(holders, {}, [&](const Holder& h) { return load_[static_cast<size_t>(h.rank)]; });
    items_[shared.item].owner = owner;
    add_length(load_[static_cast<size_t>(owner.rank)], shared.length_bytes);
  }
}

// At the end of its owner's file.
Extent PlanBuilder::place(const Key& key, const Item& item, SavePlan& plan) const {
  RankWrites& writes = plan.ranks[static_cast<size_t>(item.owner.rank)];
  Extent at{writes.file, writes.file_bytes, item.length_bytes, {}};
  add_length(writes.file_bytes, item.length_bytes);
  writes.items.push_back({*key.key, item.owner.box, item.length_bytes});
  return at;
}

SavePlan PlanBuilder::finish(const std::string& save_id) {
  choose_owners();
  SavePlan plan;
  plan.manifest.writer_version = 1;  // a sidecar goes with it
  plan.manifest.save_id = save_id;
  std::vector<size_t> counts(static_cast<size_t>(ranks_), 0);
  for (const Item& item : items_) ++counts[static_cast<size_t>(item.owner.rank)];
  plan.ranks.reserve(counts.size());
  for (size_t r = 0; r < counts.size(); ++r) {
    plan.ranks.push_back({"__" + std::to_string(r) + "_0.distcp", {}, 0});
    if (!only_ || static_cast<int>(r) == *only_) plan.ranks.back().items.reserve(counts[r]);
  }
  // Objects stand before tensors in a file, as stock writes them: a reader of objects then touches its beginning only.
  for (const bool objects : {true, false}) {
    for (size_t k = 0, begin = 0; k < keys_.size(); begin = keys_[k++].end) {
      Key& key = keys_[k];
      if (std::holds_alternative<ObjectEntry>(key.is) != objects) continue;
      for (size_t i = begin; i < key.end; ++i) {
        if (only_ && items_[i].owner.rank != *only_) continue;
        Extent at = place(key, items_[i], plan);
        if (objects) std::get<ObjectEntry>(key.is).at = std::move(at);
        else if (!only_) std::get<TensorEntry>(key.is).chunks[i - begin].at = std::move(at);
      }
    }
  }
  if (only_) return plan;
  for (Key& key : keys_) {
    auto entry = std::visit([&](auto& is) { return Entry{*key.path, std::move(is)}; }, key.is);
    plan.manifest.entries.emplace_hint(plan.manifest.entries.end(), *key.key, std::move(entry));
  }
  return plan;
}

}  // namespace tessera
