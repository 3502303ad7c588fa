// bench/states.h: the states that the programs of the bench save and load, float32, spread over ranks by a layout.
// Promises    Every element is told by its tensor and its place in it, so that a state loaded on other ranks can be checked.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "tessera/layout/state_dict.h"

namespace tessera::bench {

// A global tensor.
struct Tensor {
  std::string key;
  Sizes sizes;
};

// big     tensors of 8 MiB, 64 of them          mid     of 512 KiB, 1,024            small   of 4 KiB, 4,096
// layers  blocks of a transformer with Adam's moments, 1 GiB, as shared/peers/dcp_io.py has them
// square  matrices of 2,048 × 1,024, 64 of them, to be cut either way       one     a single tensor of 512 MiB
// `mib` in all; 0 takes what is said here. Error(invalid_argument) for another name.
std::vector<Tensor> shape_of(const std::string& name, int64_t mib = 0);

enum class Fill : uint8_t { content, zero };

// One rank's part of the tensors, with the memory that it describes; every page is there.
class RankState {
 public:
  RankState(const std::vector<Tensor>& tensors, const Layout& layout, int ranks, int rank, Fill fill);
  StateDict& state() { return state_; }
  int64_t bytes() const { return bytes_; }
  // Error(corrupt) where an element is not what Fill::content makes it.
  void expect_content() const;

 private:
  struct Free {
    void operator()(uint32_t* elements) const { std::free(elements); }
  };
  struct Piece {
    size_t tensor = 0;
    Sizes sizes;  // of the tensor
    Box box;
    std::unique_ptr<uint32_t[], Free> elements;  // from the beginning of a cache line, as LibTorch's
  };
  std::vector<Piece> pieces_;
  StateDict state_;
  int64_t bytes_ = 0;
};

// The parts of all ranks.
std::vector<RankState> rank_states(const std::vector<Tensor>& tensors, const Layout& layout, int ranks, Fill fill);
// Every tensor cut along one dimension, a part a rank.
Layout cut_along(int dimension, int ranks);

}  // namespace tessera::bench
