#include "bench/states.h"

#include <algorithm>
#include <new>

#include "tessera/base/error.h"

namespace tessera::bench {

namespace {

std::vector<Tensor> alike(int64_t count, const Sizes& sizes) {
  std::vector<Tensor> tensors;
  for (int64_t i = 0; i < count; ++i) tensors.push_back({"layers." + std::to_string(i) + ".weight", sizes});
  return tensors;
}

std::vector<Tensor> layers(int64_t mib) {
  constexpr int64_t hidden = 2048;
  constexpr int64_t elements = (4 * hidden * hidden + 8 * hidden) * 3;
  const int64_t count = std::max<int64_t>(1, (mib * (1 << 20) / 4 + elements / 2) / elements);
  std::vector<Tensor> tensors;
  for (int64_t layer = 0; layer < count; ++layer) {
    for (const std::string slot : {"param", "exp_avg", "exp_avg_sq"}) {
      const std::string prefix = slot + ".layers." + std::to_string(layer) + ".";
      tensors.push_back({prefix + "qkv", {3 * hidden, hidden}});
      tensors.push_back({prefix + "out", {hidden, hidden}});
      tensors.push_back({prefix + "norm", {4 * hidden}});
      tensors.push_back({prefix + "bias", {4 * hidden}});
    }
  }
  return tensors;
}

// What element `index` of a tensor, in row-major order, holds: random bits, cheaply.
uint32_t content(size_t tensor, int64_t index) {
  return (static_cast<uint32_t>(index) + static_cast<uint32_t>(tensor) * 40503U) * 2654435761U;
}

// visit(element in the piece, index in the tensor) for each element of the box.
template <class Visit>
void for_each_element(const Sizes& sizes, const Box& box, Visit visit) {
  const Sizes strides = row_major(sizes);
  int64_t corner = 0;
  for (size_t d = 0; d < sizes.size(); ++d) corner += box.offsets[d] * strides[d];
  for_each_run(box.sizes, strides, row_major(box.sizes), [&](int64_t in_tensor, int64_t in_piece, int64_t count) {
    for (int64_t i = 0; i < count; ++i) visit(in_piece + i, corner + in_tensor + i);
  });
}

}  // namespace

std::vector<Tensor> shape_of(const std::string& name, int64_t mib) {
  const auto count = [&](int64_t usual, int64_t kib) { return mib > 0 ? std::max<int64_t>(1, mib * 1024 / kib) : usual; };
  if (name == "big") return alike(count(64, 8 << 10), {2 << 20});
  if (name == "mid") return alike(count(1024, 512), {128 << 10});
  if (name == "small") return alike(count(4096, 4), {1 << 10});
  if (name == "square") return alike(count(64, 8 << 10), {2048, 1024});
  if (name == "layers") return layers(mib > 0 ? mib : 1024);
  if (name == "one") return alike(1, {mib > 0 ? mib : 512, 1 << 18});
  throw Error({.code = Code::invalid_argument, .what = "no shape \"" + name + "\"", .hint = "big, mid, small, square, layers or one"});
}

RankState::RankState(const std::vector<Tensor>& tensors, const Layout& layout, int ranks, int rank, Fill fill) {
  for (size_t t = 0; t < tensors.size(); ++t) {
    TensorLeaf leaf{DType::float32, tensors[t].sizes, {}, layout};
    for (Box& box : boxes_of(layout, tensors[t].sizes, rank, ranks)) {
      const auto elements = static_cast<size_t>(volume(box));
      Piece& piece = pieces_.emplace_back(Piece{t, tensors[t].sizes, std::move(box), {}});
      piece.elements.reset(static_cast<uint32_t*>(std::aligned_alloc(64, (elements * 4 + 63) / 64 * 64)));
      if (!piece.elements) throw std::bad_alloc();
      std::fill_n(piece.elements.get(), elements, 0U);
      bytes_ += static_cast<int64_t>(elements) * 4;
      if (fill == Fill::content) {
        for_each_element(piece.sizes, piece.box,
                         [&](int64_t at, int64_t index) { piece.elements[static_cast<size_t>(at)] = content(t, index); });
      }
      leaf.shards.push_back({piece.box, dense_view(reinterpret_cast<std::byte*>(piece.elements.get()), DType::float32, piece.box.sizes)});
    }
    state_.add(tensors[t].key, std::move(leaf));
  }
}

void RankState::expect_content() const {
  for (const Piece& piece : pieces_) {
    bool equal = true;
    for_each_element(piece.sizes, piece.box,
                     [&](int64_t at, int64_t index) { equal &= piece.elements[static_cast<size_t>(at)] == content(piece.tensor, index); });
    if (!equal) throw Error({.code = Code::corrupt, .what = "tensor " + std::to_string(piece.tensor) + " was not loaded as it was saved"});
  }
}

std::vector<RankState> rank_states(const std::vector<Tensor>& tensors, const Layout& layout, int ranks, Fill fill) {
  std::vector<RankState> states;
  for (int rank = 0; rank < ranks; ++rank) states.emplace_back(tensors, layout, ranks, rank, fill);
  return states;
}

Layout cut_along(int dimension, int ranks) { return Grid{{{ranks, dimension}}}; }

}  // namespace tessera::bench
