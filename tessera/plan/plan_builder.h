// tessera/plan/plan_builder.h: what everybody holds, key by key, into who writes what where. How what everybody holds became known, from
// descriptions or from layouts, is the affair of those who call it.
// Promises    The same calls give the same plan. Each box has one owner; replicas are spread by bytes, largest first.
// Errors      Error(invalid_argument) that names the key and the boxes where they overlap or leave a hole, and for lengths that overflow.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "tessera/format/item_frames.h"
#include "tessera/plan/save_plan.h"

namespace tessera {

// A rank that holds a box (or an object), and where among its own boxes.
struct Holder {
  int rank = 0;
  int32_t box = -1;  // of an object
};

struct HeldBy {
  Box box;
  Holder holder;
};

class PlanBuilder {
 public:
  // With `only` there is no manifest, nothing is checked but lengths, and this rank alone learns what it writes.
  explicit PlanBuilder(int ranks, std::optional<int> only = {});

  // Keys come in ascending order. They and their paths are borrowed until finish().
  void add_object(const std::string& key, const KeyPath& path, int64_t length_bytes, std::span<const Holder> holders);
  // `boxes` by Box, those of one box by rank. Empty boxes are left out, but for a tensor without elements, which is one empty chunk, so
  // that its key and shape are not lost.
  void add_tensor(const std::string& key, const KeyPath& path, DType dtype, const Sizes& sizes, std::span<const HeldBy> boxes);

  SavePlan finish(const std::string& save_id);

 private:
  struct Key {
    const std::string* key = nullptr;
    const KeyPath* path = nullptr;
    std::variant<TensorEntry, ObjectEntry> is;
    size_t end = 0;  // of its items
  };
  // A box of a tensor or an object, to be written once.
  struct Item {
    int64_t length_bytes = 0;
    Holder owner;
  };
  struct Shared {
    size_t item = 0;
    int64_t length_bytes = 0;
    size_t first_holder = 0;
    size_t holders = 0;
  };

  size_t items_end() const { return keys_.empty() ? 0 : keys_.back().end; }
  void add_item(int64_t length_bytes, size_t first_holder);
  void choose_owners();
  Extent place(const Key& key, const Item& item, SavePlan& plan) const;

  const int ranks_;
  const std::optional<int> only_;
  format::ItemFrames frames_;
  std::vector<Key> keys_;
  std::vector<Item> items_;
  std::vector<Shared> shared_;
  std::vector<Holder> holders_;  // of what is shared
  std::vector<int64_t> load_;    // bytes of each rank
};

}  // namespace tessera
