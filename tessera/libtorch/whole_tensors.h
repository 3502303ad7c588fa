// tessera/libtorch/whole_tensors.h: whole copies, in host memory, of what ranks hold in parts, parameters or what an optimizer keeps of
// them: kind full.
// Collective  Making one, and write_back() where rank 0 alone has the copies: every rank does, with the same parts in the same order.
// Memory      A copy of everything on each rank, or on rank 0 alone; while it is made, one unit's more. After let_go() they live as long as
//             the description that was made of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tessera/fsdp/traversal.h"
#include "tessera/libtorch/weak_tensor.h"

namespace tessera {

// This rank's part of something that is shaped as a parameter of a unit and lies as that does: 1-D, as unit->shard_part(index).
struct ShardPart {
  NamedParameter parameter;
  std::string what = {};  // "exp_avg"; empty: the parameter itself
  at::Tensor part = {};
};

class WholeTensors {
 public:
  // `rank0_only`: other ranks help to gather and keep none.
  WholeTensors(std::vector<ShardPart> parts, bool rank0_only);

  // Undefined where this rank keeps none.
  at::Tensor of(const NamedParameter& parameter, const std::string& what) const;
  void let_go() { strong_.clear(); }
  // After a load has filled them: copies what is this rank's into the parts. Rank 0 sends it, where it alone has them.
  // Throws Error(invalid_argument) where they are gone.
  void write_back() const;

 private:
  // What is gathered at once: parts of one unit, and of one kind.
  struct Flat {
    const FlatUnit* unit = nullptr;
    std::string what;
    std::vector<size_t> parts;
    std::string label() const;
  };
  bool keeps() const;
  void gather(const Flat& flat);
  void send_from_rank0(const Flat& flat) const;

  std::vector<ShardPart> parts_;
  const bool rank0_only_;
  std::vector<Flat> flats_;
  at::Tensor whole(size_t part) const;
  std::vector<std::optional<WeakTensor>> whole_;  // of each part
  std::vector<at::Tensor> strong_;
  std::map<std::pair<std::string, std::string>, size_t> known_;
};

}  // namespace tessera
