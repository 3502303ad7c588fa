// tessera/plan/plan_builder.h: what everybody holds, key by key, into who writes what where.
// How what everybody holds became known, from descriptions or from layouts, is the affair of those who call it.
//
// Promises    The same calls give the same plan, on however many cores. Each element has one owner. What several ranks hold is spread by
//             bytes, the largest first; a box that is large beside a rank's share is cut into rows for its holders before that.
// Errors      Error(invalid_argument) that names the key and the boxes where they overlap or leave a hole, and for lengths that overflow.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tessera/format/item_frames.h"
#include "tessera/layout/layout.h"
#include "tessera/plan/save_plan.h"

namespace tessera {

// A rank that holds a box (or an object), and where among its own boxes.
struct Holder {
  int rank = 0;
  int32_t box = -1;  // of an object
};

class PlanBuilder {
 public:
  // With `only` there is no manifest, nothing is checked but lengths, and this rank alone learns what it writes.
  explicit PlanBuilder(int ranks, std::optional<int> only = {});

  // Keys come in ascending order. They and their paths are borrowed until finish().
  void add_object(const std::string& key, const KeyPath& path, int64_t length_bytes, std::vector<Holder> holders);
  // `boxes` gives them all in the order of boxes, replicas by rank; it is called in finish(), on any thread. Empty boxes are left out, but
  // for a tensor without elements, which is one empty chunk, so that its key and shape are not lost.
  using Boxes = std::function<std::vector<RankBox>()>;
  // `alike`: all who hold a box may write it, or some rows of it; otherwise the first of them does.
  void add_tensor(const std::string& key, const KeyPath& path, DType dtype, const Sizes& sizes, Boxes boxes, bool alike = true);

  SavePlan finish(const std::string& save_id);

 private:
  // A box of a tensor, some of its rows, or an object, to be written once.
  struct Item {
    int64_t length_bytes = 0;
    Holder owner;
    uint32_t first_holder = 0;  // in Key::holders
    uint32_t holders = 0;  // 0 where the owner is the only one
    Rows rows = {};
  };
  struct Key {
    const std::string* key = nullptr;
    const KeyPath* path = nullptr;
    std::variant<TensorEntry, ObjectEntry> is;
    Boxes boxes = {};
    bool alike = true;
    std::vector<Item> items = {};
    std::vector<Holder> holders = {};  // of items with more than one
  };
  class Preparation;

  void cut_large();
  void cut_large(Key& key, int64_t least_bytes, format::ItemFrames& frames) const;
  void choose_owners();
  void place(Key& key, SavePlan& plan) const;

  const int ranks_;
  const std::optional<int> only_;
  std::vector<Key> keys_;
};

}  // namespace tessera
