#include "tessera/plan/save_plan.h"

#include <algorithm>

#include "tessera/base/checked.h"
#include "tessera/format/item.h"

namespace tessera {
namespace {

// A rank that holds a box (or an object), and where among its own boxes.
struct Holder {
  int rank = 0;
  int32_t box = -1;
};

// Something to be written once: a box of a tensor or an object, with all ranks that could.
struct Item {
  const std::string* key = nullptr;
  Box box;
  int64_t length_bytes = 0;
  std::vector<Holder> holders;  // by rank, ascending
  Holder owner;
};

struct HeldBy {
  Box box;
  Holder holder;
  const Digest* content = nullptr;  // where it was taken
};

// A key as all ranks together describe it.
struct Collected {
  int first_rank = 0;
  const Part* first = nullptr;
  std::vector<HeldBy> boxes;  // of a tensor, in their order; replicas by rank
  std::vector<Holder> holders;                // of an object
};

[[noreturn]] void disagree(const std::string& key, const std::string& about, int a, const std::string& of_a, int b, const std::string& of_b,
                           std::string hint = "every rank must describe the same tensors and objects") {
  std::string what = "ranks " + std::to_string(a) + " and " + std::to_string(b) + " disagree on the " + about + " of '" + key + "'";
  if (!of_a.empty()) what += ": " + of_a + " and " + of_b;
  throw Error({.code = Code::mismatch, .what = what, .hint = std::move(hint)});
}

void check_agreement(const std::string& key, int first_rank, const Part& first, int rank, const Part& part) {
  if (first.is.index() != part.is.index()) {
    const auto kind = [](const Part& p) { return std::string(std::holds_alternative<TensorPart>(p.is) ? "a tensor" : "an object"); };
    disagree(key, "kind", first_rank, kind(first), rank, kind(part));
  }
  if (first.path != part.path) disagree(key, "path", first_rank, join(first.path), rank, join(part.path));
  if (const auto* tensor = std::get_if<TensorPart>(&part.is)) {
    const auto& other = std::get<TensorPart>(first.is);
    if (tensor->dtype != other.dtype)
      disagree(key, "dtype", first_rank, std::string(name(other.dtype)), rank, std::string(name(tensor->dtype)));
    if (tensor->sizes != other.sizes) disagree(key, "shape", first_rank, to_string(other.sizes), rank, to_string(tensor->sizes));
  } else if (std::get<ObjectPart>(part.is) != std::get<ObjectPart>(first.is)) {
    disagree(key, "value", first_rank, "", rank, "", "an object is saved once for all ranks: make it equal, or rank-local");
  }
}

// What arithmetic on the boxes may then rely on.
void check_boxes(const std::string& key, const Sizes& sizes, const Collected& all) {
  const auto bad = [&](const std::string& what) { return Error({.code = Code::invalid_argument, .what = what + " of '" + key + "'"}); };
  if (!capture([&] { return checked_volume(sizes); })) throw bad("no tensor has the shape " + to_string(sizes));
  for (const auto& [box, holder, content] : all.boxes) {
    if (!fits(box, sizes)) throw bad("rank " + std::to_string(holder.rank) + " holds a box outside the shape " + to_string(sizes));
  }
}

std::map<std::string, Collected> collect(const std::vector<Description>& ranks) {
  std::map<std::string, Collected> keys;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const int rank = static_cast<int>(r);
    for (const auto& [key, part] : ranks[r]) {
      Collected& all = keys[key];
      if (!all.first) {
        all.first = &part;
        all.first_rank = rank;
      }
      check_agreement(key, all.first_rank, *all.first, rank, part);
      if (const auto* tensor = std::get_if<TensorPart>(&part.is)) {
        for (size_t b = 0; b < tensor->boxes.size(); ++b) {
          const bool taken = b < tensor->contents.size() && tensor->contents[b];
          all.boxes.push_back({tensor->boxes[b], {rank, static_cast<int32_t>(b)}, taken ? &*tensor->contents[b] : nullptr});
        }
      } else {
        all.holders.push_back({rank, -1});
      }
    }
  }
  for (auto& [key, all] : keys) {
    if (const auto* tensor = std::get_if<TensorPart>(&all.first->is)) check_boxes(key, tensor->sizes, all);
    std::ranges::stable_sort(all.boxes, {}, &HeldBy::box);
  }
  return keys;
}

void check_replicas(const std::string& key, const std::vector<HeldBy>& boxes) {
  for (size_t i = 0, first = 0; i < boxes.size(); ++i) {
    if (boxes[i].box != boxes[first].box) first = i;
    const HeldBy &a = boxes[first], &b = boxes[i];
    if (!a.content || !b.content || *a.content == *b.content) continue;
    disagree(key, "values in " + to_string(a.box), a.holder.rank, "", b.holder.rank, "",
             "a box is saved once for all who hold it: find out what made its replicas drift apart");
  }
}

// The distinct boxes of a tensor, checked to tile it. Empty boxes are left out, but for a tensor without elements, which
// is one empty chunk, so that its key and shape are not lost.
void add_tensor(const std::string& key, const Collected& all, std::vector<Item>& items) {
  const auto& tensor = std::get<TensorPart>(all.first->is);
  const bool empty = volume(tensor.sizes) == 0;
  check_replicas(key, all.boxes);
  const size_t begin = items.size();
  if (empty) {
    // Whoever holds an empty view of the whole may own it; it has no bytes to differ in.
    for (const auto& [box, holder, content] : all.boxes) {
      if (items.size() == begin) items.push_back({&key, whole(tensor.sizes), 0, {}, {}});
      if (box == items.back().box) items.back().holders.push_back(holder);
    }
    if (items.size() == begin || items.back().holders.empty()) {
      throw Error({.code = Code::invalid_argument,
                   .what = "no rank holds the empty tensor '" + key + "'",
                   .hint = "rank 0 gives its one empty box"});
    }
  } else {
    std::vector<Box> boxes;
    for (const auto& [box, holder, content] : all.boxes) {
      if (volume(box) == 0) continue;
      if (items.size() == begin || items.back().box != box) {
        items.push_back({&key, box, 0, {}, {}});
        boxes.push_back(box);
      }
      if (items.back().holders.empty() || items.back().holders.back().rank != holder.rank) items.back().holders.push_back(holder);
    }
    check_tiling(key, tensor.sizes, boxes, Code::invalid_argument);
  }
  for (size_t i = begin; i < items.size(); ++i) items[i].length_bytes = format::item_frame(tensor.dtype, items[i].box.sizes).length_bytes;
}

void add_length(int64_t& total, int64_t length_bytes) { total = checked_add(total, length_bytes, Code::invalid_argument); }

// Items with one holder are its own; the others go, largest first, to the holder with the fewest bytes so far.
void choose_owners(std::vector<Item>& items, size_t ranks) {
  std::vector<int64_t> load(ranks, 0);
  std::vector<Item*> shared;
  for (Item& item : items) {
    item.owner = item.holders.front();
    if (item.holders.size() == 1) add_length(load[static_cast<size_t>(item.owner.rank)], item.length_bytes);
    else shared.push_back(&item);
  }
  std::ranges::stable_sort(shared, std::greater{}, &Item::length_bytes);
  for (Item* item : shared) {
    item->owner = *std::ranges::min_element(item->holders, {}, [&](const Holder& h) { return load[static_cast<size_t>(h.rank)]; });
    add_length(load[static_cast<size_t>(item->owner.rank)], item->length_bytes);
  }
}

// Objects stand before tensors in a file, as stock writes them: a reader of objects then touches its beginning only.
void lay_out(std::vector<Item>& items, const std::map<std::string, Collected>& keys, SavePlan& plan) {
  std::ranges::stable_partition(items, [](const Item& item) { return item.owner.box < 0; });
  for (const Item& item : items) {
    RankWrites& writes = plan.ranks[static_cast<size_t>(item.owner.rank)];
    Extent at{writes.file, writes.file_bytes, item.length_bytes, {}};
    writes.items.push_back({*item.key, item.owner.box, item.length_bytes});
    add_length(writes.file_bytes, item.length_bytes);
    const Part& part = *keys.at(*item.key).first;
    Entry& entry = plan.manifest.entries.try_emplace(*item.key, Entry{part.path, ObjectEntry{}}).first->second;
    if (item.owner.box < 0) {
      entry.is = ObjectEntry{std::move(at)};
      continue;
    }
    if (!std::holds_alternative<TensorEntry>(entry.is)) {
      const auto& tensor = std::get<TensorPart>(part.is);
      entry.is = TensorEntry{tensor.dtype, tensor.sizes, {}};
    }
    std::get<TensorEntry>(entry.is).chunks.push_back({item.box, std::move(at)});
  }
}

}  // namespace

SavePlan plan_save(const std::vector<Description>& ranks, const std::string& save_id) {
  const std::map<std::string, Collected> keys = collect(ranks);
  std::vector<Item> items;
  for (const auto& [key, all] : keys) {
    if (const auto* object = std::get_if<ObjectPart>(&all.first->is)) {
      if (object->length_bytes < 0) throw Error({.code = Code::invalid_argument, .what = "the object '" + key + "' has a negative length"});
      items.push_back({&key, {}, object->length_bytes, all.holders, {}});
    } else {
      add_tensor(key, all, items);
    }
  }
  choose_owners(items, ranks.size());
  SavePlan plan;
  plan.manifest.writer_version = 1;  // a sidecar goes with it
  plan.manifest.save_id = save_id;
  for (size_t r = 0; r < ranks.size(); ++r) plan.ranks.push_back({"__" + std::to_string(r) + "_0.distcp", {}, 0});
  lay_out(items, keys, plan);
  return plan;
}

std::vector<std::vector<HeldBox>> replicated_boxes(const std::vector<Description>& ranks) {
  std::vector<std::vector<HeldBox>> replicated(ranks.size());
  for (const auto& [key, all] : collect(ranks)) {
    const auto& boxes = all.boxes;
    for (size_t i = 0; i < boxes.size(); ++i) {
      const bool again = (i > 0 && boxes[i - 1].box == boxes[i].box) || (i + 1 < boxes.size() && boxes[i + 1].box == boxes[i].box);
      if (again && volume(boxes[i].box) > 0) replicated[static_cast<size_t>(boxes[i].holder.rank)].push_back({key, boxes[i].holder.box});
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
    writes.items.push_back(std::move(item));
  }
  return writes;
}

}  // namespace tessera
