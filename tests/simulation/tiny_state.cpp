#include "tests/simulation/tiny_state.h"

#include <algorithm>

#include "tessera/checkpoint/checkpoint.h"

namespace tessera {
namespace {

const Sizes flat_sizes = {5, 7};
const Sizes same_sizes = {3};

int32_t cell(const std::string& key, int64_t index, int64_t version) {
  return static_cast<int32_t>((index * 7919 + key.front() * 104729 + version * 15485863) & 0x7fffffff);
}

// Every cell of a box in row-major order. `visit(place in the box, place in the tensor)`.
void for_each_cell(const Box& box, const Sizes& sizes, auto visit) {
  for_each_run(box.sizes, row_major(box.sizes), row_major(sizes), [&](int64_t in_box, int64_t in_tensor, int64_t count) {
    int64_t corner = 0;
    const Sizes strides = row_major(sizes);
    for (size_t d = 0; d < sizes.size(); ++d) corner += box.offsets[d] * strides[d];
    for (int64_t i = 0; i < count; ++i) visit(in_box + i, corner + in_tensor + i);
  });
}

// Shares of [0, n) for so many owners, the first ones larger; empty for other ranks.
std::pair<int64_t, int64_t> share(int64_t n, int owners, int rank) {
  if (rank >= owners) return {0, 0};
  return {n * rank / owners, n * (rank + 1) / owners};
}

}  // namespace

TinyState::TinyState(const TinyLayout& layout, int rank, int ranks, int64_t version) : rank_(rank) {
  const Sizes rows = {layout.rows, 2};
  const auto [first, last] = share(layout.rows, std::min(layout.owners, ranks), rank);
  add_tensor("rows", rows, {Box{{first, 0}, {last - first, 2}}}, version);
  const auto [begin, end] = share(volume(flat_sizes), std::min(layout.flat_owners, ranks), rank);
  add_tensor("flat", flat_sizes, boxes_of_range(flat_sizes, begin, end), version);
  add_tensor("same", same_sizes, {whole(same_sizes)}, version);
  state.add("version", Value(version));
  if (layout.rank_local) state.add("stream", RankLocal{.value = Value(version * 1000 + rank), .may_reset = true});
}

void TinyState::add_tensor(const std::string& key, const Sizes& sizes, const std::vector<Box>& boxes, int64_t version) {
  TensorLeaf leaf{.dtype = DType::int32, .sizes = sizes};
  for (const Box& box : boxes) {
    Cells& cells = memory_.emplace_back(static_cast<size_t>(volume(box)));
    for_each_cell(box, sizes, [&](int64_t in_box, int64_t at) { cells[static_cast<size_t>(in_box)] = cell(key, at, version); });
    leaf.shards.push_back({box, dense_view(reinterpret_cast<std::byte*>(cells.data()), DType::int32, box.sizes)});
  }
  state.add(key, std::move(leaf));
}

int64_t TinyState::version() const { return *state.object("version")->as<int64_t>(); }

bool TinyState::is(int64_t version, bool reset) const {
  bool same = this->version() == version;
  for (const auto& [key, leaf] : state.leaves) {
    if (const auto* local = std::get_if<RankLocal>(&leaf.is)) same &= local->value == (reset ? Value() : Value(version * 1000 + rank_));
    const auto* tensor = std::get_if<TensorLeaf>(&leaf.is);
    if (!tensor) continue;
    for (const Shard& shard : tensor->shards) {
      const auto* cells = reinterpret_cast<const int32_t*>(shard.view.data);
      for_each_cell(shard.box, tensor->sizes, [&](int64_t in_box, int64_t at) { same &= cells[in_box] == cell(key, at, version); });
    }
  }
  return same;
}

std::optional<int64_t> whole_version(std::shared_ptr<const Storage> storage, const Path& directory, const TinyLayout& layout,
                                     std::string& why) {
  try {
    const Checkpoint checkpoint = Checkpoint::open(std::move(storage), directory);
    const int64_t version = *checkpoint.object("version").as<int64_t>();
    for (const auto& [key, sizes] :
         {std::pair("rows", Sizes{layout.rows, 2}), std::pair("flat", flat_sizes), std::pair("same", same_sizes)}) {
      std::vector<int32_t> cells(static_cast<size_t>(volume(sizes)));
      checkpoint.read(key, whole(sizes), dense_view(reinterpret_cast<std::byte*>(cells.data()), DType::int32, sizes));
      for (size_t i = 0; i < cells.size(); ++i) {
        if (cells[i] == cell(key, static_cast<int64_t>(i), version)) continue;
        why = std::string(key) + " differs at " + std::to_string(i);
        return std::nullopt;
      }
    }
    return version;
  } catch (const Error& error) {
    why = describe(error.fault());
    return std::nullopt;
  }
}

}  // namespace tessera
