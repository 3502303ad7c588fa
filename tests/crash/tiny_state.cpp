#include "tests/crash/tiny_state.h"

#include <cstring>
#include <numeric>

#include "tessera/checkpoint/checkpoint.h"

namespace tessera {
namespace {

constexpr int64_t all_rows = 7;  // unevenly cut, and some for each of 4 ranks
constexpr int64_t columns = 3;
constexpr int64_t shared_elements = 4;

Grid by_rows(int ranks) { return {{{.ranks = ranks, .shard = 0}}}; }
Box rows_of(int rank, int ranks) { return boxes_of(by_rows(ranks), Sizes{all_rows, columns}, rank, ranks).at(0); }

template <class T>
std::byte* start_of(std::vector<T>& values) {
  return reinterpret_cast<std::byte*>(values.data());
}

template <class T>
bool same_bytes(const View& view, const std::vector<T>& values) {
  return bytes_of(view) == static_cast<int64_t>(values.size() * sizeof(T)) &&
         std::memcmp(view.data, values.data(), values.size() * sizeof(T)) == 0;
}

const View& view_of(const StateDict& state, const std::string& key) {
  return std::get<TensorLeaf>(state.leaves.at(key).is).shards.at(0).view;
}

bool whole(const StateDict& loaded, int64_t version) {
  const TinyState expected(0, 1, version);
  return same_bytes(view_of(loaded, "rows"), expected.rows) && same_bytes(view_of(loaded, "shared"), expected.shared);
}

}  // namespace

TinyState::TinyState(int rank, int ranks) {
  const Box box = rows_of(rank, ranks);
  rows.resize(static_cast<size_t>(volume(box)));
  shared.resize(shared_elements);
  state.add("rows", TensorLeaf{.dtype = DType::float32,
                               .sizes = {all_rows, columns},
                               .shards = {{box, dense_view(start_of(rows), DType::float32, box.sizes)}},
                               .layout = by_rows(ranks)});
  state.add("shared", replicated(dense_view(start_of(shared), DType::int64, {shared_elements})));
  state.add("version", Value(0));
}

TinyState::TinyState(int rank, int ranks, int64_t version) : TinyState(rank, ranks) {
  std::iota(rows.begin(), rows.end(), static_cast<float>(1000 * version + rows_of(rank, ranks).offsets[0] * columns));
  std::iota(shared.begin(), shared.end(), version << 40);
  state.leaves.at("version").is = Value(version);
}

TinyState& TinyState::without_layouts() {
  for (const char* key : {"rows", "shared"}) std::get<TensorLeaf>(state.leaves.at(key).is).layout.reset();
  return *this;
}

int64_t version_at(const std::shared_ptr<const Storage>& storage, const Path& path) {
  const auto opened = capture([&] { return Checkpoint::open(storage, path); });
  if (!opened && opened.fault.code == Code::not_found) return 0;
  if (!opened) throw Error(opened.fault);
  const StateDict loaded = opened.value->load();
  // A format without objects tells its version by its content.
  const Value* named = loaded.object("version");
  const auto version = named ? std::get<int64_t>(named->is) : [&] {
    int64_t first = 0;
    std::memcpy(&first, view_of(loaded, "shared").data, sizeof first);
    return first >> 40;
  }();
  if (version < 1 || !whole(loaded, version)) throw Error({.code = Code::corrupt, .what = "a mixture of versions", .file = path});
  return version;
}

}  // namespace tessera
