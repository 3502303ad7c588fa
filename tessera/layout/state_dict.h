// tessera/layout/state_dict.h: what a rank holds of the state that all ranks save and load together: key → leaf.
// Keys        Fully qualified names as stock PyTorch writes them. The nesting that a key came from is its path; a flat
//             state has one-element paths. (DCP keeps paths as `planner_data`.)
// Leaves      TensorLeaf   a global tensor, of which this rank holds some boxes. Replicated: every rank's box is the whole.
//             Value        an object. All ranks hold the same one; ranks that disagree are an error on save.
//             RankLocal    an object that differs by rank (random state); kept under `<key>.rank<r>`, never merged.
// Memory      Views borrow: they must stay valid, and on save unchanged, until the verb that uses them returns.
#pragma once

#include <concepts>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "tessera/layout/box.h"
#include "tessera/layout/layout.h"
#include "tessera/layout/value.h"
#include "tessera/layout/view.h"

namespace tessera {

using PathElement = std::variant<std::string, int64_t>;  // a dict's key or a list's index
using KeyPath = std::vector<PathElement>;

// The flat key of a path: its elements joined with '.'.
std::string join(const KeyPath& path);

// A part of a global tensor in this rank's memory.
struct Shard {
  Box box;
  View view;  // view.sizes == box.sizes
};

struct TensorLeaf {
  DType dtype = DType::float32;
  Sizes sizes;                // of the global tensor
  std::vector<Shard> shards;  // what this rank holds; may be none
  // How all ranks hold it, where that is known: ranks whose every tensor says so plan a save without describing it to each other. The
  // shards are then this rank's boxes_of() it, in their order.
  std::optional<Layout> layout = {};
};

struct RankLocal {
  Value value;
  // Loading with another number of ranks: an error, or `value` becomes None and the report names the key, so that the
  // owner starts it afresh (a random stream is seeded again).
  bool may_reset = false;
};

struct Leaf {
  KeyPath path;
  std::variant<TensorLeaf, Value, RankLocal> is;
};

struct StateDict {
  std::map<std::string, Leaf> leaves;

  // Adds a leaf; a key that is there already throws Error(invalid_argument). An empty path means {key}.
  void add(std::string key, std::variant<TensorLeaf, Value, RankLocal> leaf, KeyPath path = {});
  // Adds every leaf of `inner` below `prefix`: key "prefix.key", path (prefix, path…).
  void add_all(const std::string& prefix, StateDict inner);
  // The object under `key`, or null if there is none.
  const Value* object(const std::string& key) const;
};

// A tensor that every rank holds whole. `alike`: as Replicated has it.
TensorLeaf replicated(View view, bool alike = true);

// Anything that takes part in a checkpoint: model, optimizer, data position, random state, schedule.
// state_dict() describes memory that load fills in place; load_state_dict() is then given the same state dict back, with
// objects replaced by the loaded ones, to take over what could not be filled in place.
template <class T>
concept Stateful = requires(T& object, const StateDict& loaded) {
  { object.state_dict() } -> std::convertible_to<StateDict>;
  object.load_state_dict(loaded);
};

}  // namespace tessera
