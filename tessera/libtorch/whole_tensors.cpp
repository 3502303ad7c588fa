#include "tessera/libtorch/whole_tensors.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/collectives/job.h"

namespace tessera {
namespace {

at::Tensor zeros_like_part(const at::Tensor& part, int64_t numel) { return at::zeros({numel}, part.options().requires_grad(false)); }

// One parameter's elements of a buffer that is laid out as the unit's, in the parameter's shape.
at::Tensor place_in(const at::Tensor& buffer, const NamedParameter& parameter) {
  const FlatParameter& place = parameter.unit->layout().parameters.at(parameter.index);
  return buffer.narrow(0, place.offset, place.numel).view(place.sizes);
}

}  // namespace

std::string WholeTensors::Flat::label() const { return unit->module_path() + (what.empty() ? "" : " " + what) + ", whole"; }

WholeTensors::WholeTensors(std::vector<ShardPart> parts, bool rank0_only)
    : parts_(std::move(parts)), rank0_only_(rank0_only), whole_(parts_.size()) {
  const at::NoGradGuard no_grad;
  std::map<std::pair<const FlatUnit*, std::string>, size_t> flats;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const ShardPart& part = parts_[i];
    const auto [flat, fresh] = flats.try_emplace({part.parameter.unit.get(), part.what}, flats_.size());
    if (fresh) flats_.push_back({part.parameter.unit.get(), part.what, {}});
    flats_[flat->second].parts.push_back(i);
    known_.emplace(std::pair(part.parameter.name, part.what), i);
  }
  for (const Flat& flat : flats_) gather(flat);
}

bool WholeTensors::keeps() const { return !rank0_only_ || parts_.empty() || parts_.front().parameter.unit->job().rank() == 0; }

void WholeTensors::gather(const Flat& flat) {
  const FlatUnit& unit = *flat.unit;
  const at::Tensor shard = zeros_like_part(parts_[flat.parts.front()].part, unit.layout().shard_numel);
  for (const size_t i : flat.parts) unit.part_of(shard, parts_[i].parameter.index).copy_(parts_[i].part);
  const at::Tensor whole = unit.whole_of(shard, flat.label());
  if (!keeps()) return;
  for (const size_t i : flat.parts) {
    strong_.push_back(place_in(whole, parts_[i].parameter).to(at::kCPU, /*non_blocking=*/false, /*copy=*/true));
    whole_[i].emplace(strong_.back());
  }
}

at::Tensor WholeTensors::whole(size_t part) const {
  if (!whole_[part]) return {};
  at::Tensor whole = whole_[part]->lock();
  if (!whole.defined()) throw gone("the whole tensors of a state of kind full are gone");
  return whole;
}

at::Tensor WholeTensors::of(const NamedParameter& parameter, const std::string& what) const {
  return whole(known_.at({parameter.name, what}));
}

void WholeTensors::write_back() const {
  const at::NoGradGuard no_grad;
  for (const Flat& flat : flats_) {
    if (rank0_only_) {
      send_from_rank0(flat);
      continue;
    }
    for (const size_t i : flat.parts) {
      const Range mine = flat.unit->layout().part(flat.unit->shard_rank(), parts_[i].parameter.index);
      if (mine.size() > 0) parts_[i].part.copy_(whole(i).view({-1}).narrow(0, mine.begin, mine.size()));
    }
  }
}

void WholeTensors::send_from_rank0(const Flat& flat) const {
  const FlatUnit& unit = *flat.unit;
  const FlatLayout& layout = unit.layout();
  if (layout.numel == 0) return;
  const at::Tensor buffer = zeros_like_part(parts_[flat.parts.front()].part, layout.numel);
  if (keeps()) {
    for (const size_t i : flat.parts) place_in(buffer, parts_[i].parameter).copy_(whole(i));
  }
  unit.job().collectives().broadcast(buffer, 0, flat.label() + ", from rank 0")->wait();
  for (const size_t i : flat.parts) {
    const Range mine = layout.part(unit.shard_rank(), parts_[i].parameter.index);
    const int64_t begin = layout.parameters.at(parts_[i].parameter.index).offset + mine.begin;
    if (mine.size() > 0) parts_[i].part.copy_(buffer.narrow(0, begin, mine.size()));
  }
}

}  // namespace tessera
