#include "tests/property/mesh.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <numeric>

namespace tessera {
namespace {

constexpr std::byte beside{0xA5};     // what lies between the elements of a view
constexpr std::byte before{0x5A};     // what a destination holds before it is loaded into
constexpr int last_dtype = static_cast<int>(DType::float4_e2m1fn_x2);

// Calls visit(index) for every element of these sizes, in row-major order. Told apart from for_each_run on purpose.
void for_each_index(const Sizes& sizes, auto visit) {
  if (volume(sizes) == 0) return;
  Sizes index(sizes.size(), 0);
  for (;;) {
    visit(index);
    size_t d = sizes.size();
    while (d > 0 && ++index[d - 1] == sizes[d - 1]) index[--d] = 0;
    if (d == 0) return;
  }
}
int64_t place_in(const Sizes& index, const Sizes& strides) {
  int64_t at = 0;
  for (size_t d = 0; d < index.size(); ++d) at += index[d] * strides[d];
  return at;
}
// Where element `index` of the box lies in its dense tensor.
int64_t place_in_tensor(const Sizes& index, const Box& box, const Sizes& sizes) {
  int64_t at = 0;
  for (size_t d = 0; d < sizes.size(); ++d) at = at * sizes[d] + box.offsets[d] + index[d];
  return at;
}

MeshTensor any_tensor(SeededRandom& random, KeyPath path) {
  MeshTensor tensor{.path = std::move(path), .dtype = static_cast<DType>(random.in(0, last_dtype + 1))};
  const bool large = random.chance(400);  // more than a slab and a block
  for (int64_t dims = large ? 2 : random.in(0, 5); dims > 0; --dims) {
    tensor.sizes.push_back(large ? random.in(300, 800) : random.chance(12) ? 0 : random.in(1, 7));
  }
  tensor.elements.resize(static_cast<size_t>(volume(tensor.sizes) * element_bytes(tensor.dtype)));
  for (std::byte& byte : tensor.elements)
    byte = static_cast<std::byte>(tensor.dtype == DType::boolean ? random.in(0, 2) : random.in(0, 256));
  return tensor;
}

Value any_value(SeededRandom& random, int depth) {
  const auto items = [&] {
    std::vector<Value> all;
    for (int64_t n = random.in(0, 4); n > 0; --n) all.push_back(any_value(random, depth - 1));
    return all;
  };
  constexpr std::array doubles = {
      0.0, -0.0, 1e-300, 3e-4, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()};
  switch (random.in(0, depth > 0 ? 10 : 7)) {
    case 0: return Value();
    case 1: return Value(random.chance(2));
    case 2: return Value(static_cast<int64_t>(random.next()));
    case 3: return Value(random.in(-300, 300));
    case 4: return Value(random.one_of(doubles));
    case 5: return Value(std::string(static_cast<size_t>(random.in(0, 40)), 'x') + "\xC3\xA9'\n");
    case 6: return Value::bytes(std::vector<std::byte>(static_cast<size_t>(random.in(0, 50)), std::byte(random.in(0, 256))));
    case 7: return Value::list(items());
    case 8: return Value::tuple(items());
    default: {
      Value::Mapping mapping;
      for (int64_t n = random.in(0, 4); n > 0; --n)
        mapping.items.emplace_back(Value("k" + std::to_string(n)), any_value(random, depth - 1));
      return mapping;
    }
  }
}

void add_optimizer(SeededRandom& random, MeshState& state) {
  const auto parameters = state.tensors;
  std::vector<Value> names;
  for (const auto& [key, parameter] : parameters) {
    names.emplace_back(key);
    for (const std::string moment : {"exp_avg", "exp_avg_sq"}) {
      MeshTensor like = parameter;
      like.path = {"optim", "state", key, moment};
      for (std::byte& byte : like.elements) byte ^= std::byte(random.in(0, 2));
      state.tensors["optim.state." + key + "." + moment] = std::move(like);
    }
    MeshTensor step{.path = {"optim", "state", key, "step"}, .dtype = DType::float32, .sizes = {}, .elements = std::vector<std::byte>(4)};
    const auto steps = static_cast<float>(random.in(0, 100000));
    std::memcpy(step.elements.data(), &steps, sizeof steps);
    state.tensors["optim.state." + key + ".step"] = std::move(step);
  }
  const auto group = [&](const std::string& option, Value value) {
    state.objects["optim.param_groups.0." + option] = {{"optim", "param_groups", 0, option}, std::move(value)};
  };
  group("lr", 3e-4);
  group("betas", Value::tuple({0.9, 0.999}));
  group("foreach", Value());
  group("amsgrad", false);
  group("params", Value::list(names));
}

// So many shares of [0, n), uneven and some of them empty: their borders, from 0 to n.
std::vector<int64_t> cuts(SeededRandom& random, int64_t n, int shares) {
  std::vector<int64_t> borders = {0, n};
  for (int i = 1; i < shares; ++i) borders.push_back(random.in(0, n + 1));
  std::ranges::sort(borders);
  return borders;
}

Box piece(const Box& box, size_t dim, int64_t begin, int64_t end) {
  Box part = box;
  part.offsets[dim] += begin;
  part.sizes[dim] = end - begin;
  return part;
}

// Splits a box where chance will have it, until it is small or chance has had enough.
void split(SeededRandom& random, const Box& box, std::vector<Box>& leaves) {
  const auto dims = static_cast<int64_t>(box.sizes.size());
  if (dims == 0 || random.chance(4)) return leaves.push_back(box);
  const auto dim = static_cast<size_t>(random.in(0, dims));
  if (box.sizes[dim] < 2) return leaves.push_back(box);
  const int64_t at = random.in(1, box.sizes[dim]);
  split(random, piece(box, dim, 0, at), leaves);
  split(random, piece(box, dim, at, box.sizes[dim]), leaves);
}

using Boxes = std::vector<std::vector<Box>>;  // by rank

Boxes split_along(SeededRandom& random, const Sizes& sizes, size_t dim, int ranks) {
  // With fewer shares than ranks, the others hold replicas of them: hybrid sharding.
  const int shares = random.chance(4) ? static_cast<int>(random.in(1, ranks + 1)) : ranks;
  const std::vector<int64_t> borders = cuts(random, sizes[dim], shares);
  Boxes boxes(static_cast<size_t>(ranks));
  for (int r = 0; r < ranks; ++r) {
    const auto share = static_cast<size_t>(r % shares);
    boxes[static_cast<size_t>(r)].push_back(piece(whole(sizes), dim, borders[share], borders[share + 1]));
  }
  return boxes;
}

Boxes flat_ranges(SeededRandom& random, const Sizes& sizes, int ranks) {
  const std::vector<int64_t> borders = cuts(random, volume(sizes), ranks);
  Boxes boxes(static_cast<size_t>(ranks));
  for (size_t r = 0; r < boxes.size(); ++r) boxes[r] = boxes_of_range(sizes, borders[r], borders[r + 1]);
  return boxes;
}

Boxes cells(SeededRandom& random, const Sizes& sizes, int ranks) {
  std::vector<Box> leaves;
  split(random, whole(sizes), leaves);
  Boxes boxes(static_cast<size_t>(ranks));
  const auto give = [&](const Box& box) {
    auto& rank = boxes[static_cast<size_t>(random.in(0, ranks))];
    if (std::ranges::find(rank, box) == rank.end()) rank.push_back(box);
  };
  for (const Box& leaf : leaves) {
    give(leaf);
    while (random.chance(4)) give(leaf);  // a replica
  }
  return boxes;
}

Boxes replicas(SeededRandom& random, const Sizes& sizes, int ranks) {
  Boxes boxes(static_cast<size_t>(ranks));
  for (auto& rank : boxes) {
    if (!random.chance(4)) rank.push_back(whole(sizes));
  }
  auto& one = boxes[static_cast<size_t>(random.in(0, ranks))];
  if (one.empty()) one.push_back(whole(sizes));
  return boxes;
}

Boxes any_tiles(SeededRandom& random, const Sizes& sizes, int ranks) {
  if (volume(sizes) == 0 || sizes.empty()) return replicas(random, sizes, ranks);
  switch (random.in(0, 6)) {
    case 0: return split_along(random, sizes, 0, ranks);
    case 1: return split_along(random, sizes, sizes.size() - 1, ranks);
    case 2: return flat_ranges(random, sizes, ranks);
    case 3: return flat_ranges(random, sizes, ranks);
    case 4: return cells(random, sizes, ranks);
    default: return replicas(random, sizes, ranks);
  }
}

Boxes any_boxes(SeededRandom& random, const Sizes& sizes, int ranks) {
  Boxes boxes(static_cast<size_t>(ranks));
  for (auto& rank : boxes) {
    for (int64_t n = random.in(0, 3); n > 0; --n) {
      Box box;
      for (const int64_t size : sizes) {
        box.offsets.push_back(random.in(0, size + 1));
        box.sizes.push_back(random.in(0, size - box.offsets.back() + 1));
      }
      rank.push_back(std::move(box));
    }
  }
  return boxes;
}

// Strides of dimensions in any order, with gaps; and how many elements they reach over.
std::pair<Sizes, int64_t> any_strides(SeededRandom& random, const Sizes& sizes) {
  const bool dense = random.chance(2);
  std::vector<size_t> order(sizes.size());
  std::iota(order.rbegin(), order.rend(), size_t{0});
  for (size_t i = order.size(); !dense && i > 1; --i)
    std::swap(order[i - 1], order[static_cast<size_t>(random.in(0, static_cast<int64_t>(i)))]);
  Sizes strides(sizes.size());
  int64_t reach = 1;
  for (const size_t d : order) {
    strides[d] = reach * (dense ? 1 : random.in(1, 3));
    reach = strides[d] * std::max<int64_t>(1, sizes[d]);
  }
  return {strides, reach};
}

}  // namespace

Value local_value(const std::string& key, int rank) { return Value::list({Value(key), Value(rank)}); }

MeshState any_mesh_state(SeededRandom& random) {
  MeshState state;
  for (int64_t n = random.in(1, 5); n > 0; --n) {
    const std::string name = "w" + std::to_string(n);
    state.tensors["model." + name] = any_tensor(random, {"model", name});
  }
  if (random.chance(3)) add_optimizer(random, state);
  for (int64_t n = random.in(0, 4); n > 0; --n) state.objects["o" + std::to_string(n)] = {{"o" + std::to_string(n)}, any_value(random, 2)};
  if (random.chance(3)) state.locals.push_back("stream");
  return state;
}

Spread any_tiling(SeededRandom& random, const MeshState& state, int ranks) {
  Spread spread;
  for (const auto& [key, tensor] : state.tensors) spread[key] = any_tiles(random, tensor.sizes, ranks);
  return spread;
}

Spread any_wish(SeededRandom& random, const MeshState& state, int ranks) {
  Spread spread;
  for (const auto& [key, tensor] : state.tensors) {
    if (random.chance(8)) continue;  // no rank wants it
    spread[key] = random.chance(3) ? any_boxes(random, tensor.sizes, ranks) : any_tiles(random, tensor.sizes, ranks);
  }
  return spread;
}

MeshRank::MeshRank(SeededRandom& random, const MeshState& truth, const Spread& spread, int rank, bool filled) : rank_(rank) {
  for (const auto& [key, tensor] : truth.tensors) {
    const auto boxes = spread.find(key);
    if (boxes == spread.end()) continue;
    const auto& mine = boxes->second[static_cast<size_t>(rank)];
    if (mine.empty() && random.chance(2)) continue;
    TensorLeaf leaf{.dtype = tensor.dtype, .sizes = tensor.sizes};
    for (const Box& box : mine) add_shard(random, key, tensor, box, filled, leaf);
    state.add(key, std::move(leaf), tensor.path);
  }
  for (const auto& [key, object] : truth.objects) state.add(key, filled ? object.second : Value("before"), object.first);
  for (const std::string& key : truth.locals) {
    state.add(key, RankLocal{.value = filled ? local_value(key, rank) : Value("before"), .may_reset = true});
  }
}

void MeshRank::add_shard(SeededRandom& random, const std::string& key, const MeshTensor& tensor, const Box& box, bool filled,
                         TensorLeaf& leaf) {
  const auto [strides, reach] = any_strides(random, box.sizes);
  const int64_t each = element_bytes(tensor.dtype);
  const int64_t margin = random.in(0, 3) * each;
  Place& place = places_.emplace_back(Place{.key = key, .box = box});
  place.memory.assign(static_cast<size_t>(reach * each + 2 * margin), beside);
  place.view = {.data = place.memory.data() + margin, .dtype = tensor.dtype, .sizes = box.sizes, .strides = strides};
  for_each_index(box.sizes, [&](const Sizes& index) {
    std::byte* const to = place.view.data + place_in(index, strides) * each;
    if (filled)
      std::memcpy(to, &tensor.elements[static_cast<size_t>(place_in_tensor(index, box, tensor.sizes) * each)], static_cast<size_t>(each));
    else std::fill_n(to, each, before);
  });
  leaf.shards.push_back({box, place.view});
}

std::string MeshRank::differs_from(const MeshState& truth, bool same_ranks) const {
  std::string differs;
  for (const Place& place : places_) {
    const MeshTensor& tensor = truth.tensors.at(place.key);
    const int64_t each = element_bytes(tensor.dtype);
    std::vector<std::byte> expected(place.memory.size(), beside);
    for_each_index(place.box.sizes, [&](const Sizes& index) {
      std::memcpy(expected.data() + (place.view.data - place.memory.data()) + place_in(index, place.view.strides) * each,
                  &tensor.elements[static_cast<size_t>(place_in_tensor(index, place.box, tensor.sizes) * each)], static_cast<size_t>(each));
    });
    if (place.memory != expected) differs += place.key + " at " + to_string(place.box) + "; ";
  }
  for (const auto& [key, object] : truth.objects) {
    if (*state.object(key) != object.second) differs += key + " is " + to_string(*state.object(key)) + "; ";
  }
  for (const std::string& key : truth.locals) {
    const Value& value = std::get<RankLocal>(state.leaves.at(key).is).value;
    if (value != (same_ranks ? local_value(key, rank_) : Value())) differs += key + " is " + to_string(value) + "; ";
  }
  return differs;
}

}  // namespace tessera
