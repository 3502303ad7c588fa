#include "tessera/libtorch/model_state.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>

#include "tessera/collectives/job.h"

namespace tessera {
namespace {

// Under its name and each alias: the keys are stock's, the memory is one.
void add_by_all_names(StateDict& state, const std::string& name, const std::vector<std::string>& aliases, const TensorLeaf& leaf) {
  state.add(name, leaf);
  for (const std::string& alias : aliases) state.add(alias, leaf);
}

TensorLeaf flat_leaf(const FlatUnit& unit, TensorViews& views) {
  const FlatLayout& layout = unit.layout();
  const Range range = layout.range(unit.shard_rank());
  TensorLeaf leaf{.dtype = dtype_of(unit.shard()), .sizes = {layout.numel}, .layout = layout.layout_of_buffer()};
  // A unit without elements is still a key: rank 0 holds its one empty chunk.
  if (range.size() > 0 || (layout.numel == 0 && unit.shard_rank() == 0)) {
    leaf.shards.push_back({{{range.begin}, {range.size()}}, views.view(unit.shard().narrow(0, 0, range.size()))});
  }
  return leaf;
}

}  // namespace

TensorLeaf parameter_leaf(const NamedParameter& parameter, const at::Tensor& part, TensorViews& views) {
  if (!parameter.unit) return replicated(views.view(part));
  const FlatUnit& unit = *parameter.unit;
  const std::vector<FlatPiece> pieces = unit.layout().pieces(unit.shard_rank(), parameter.index);
  TensorLeaf leaf{.dtype = dtype_of(part),
                  .sizes = unit.layout().parameters.at(parameter.index).sizes,
                  .layout = unit.layout().layout_of(parameter.index)};
  const View all = views.view(part);
  for (const FlatPiece& piece : pieces) {
    const int64_t at = (piece.shard_offset - pieces.front().shard_offset) * element_bytes(leaf.dtype);
    leaf.shards.push_back({piece.box, dense_view(all.data ? all.data + at : nullptr, leaf.dtype, piece.box.sizes, all.owner)});
  }
  return leaf;
}

WholeCopies::WholeCopies(ModuleRef model, bool rank0_only) : model_(model), rank0_only_(rank0_only) {
  const at::NoGradGuard no_grad;
  std::vector<NamedParameter> parameters = named_parameters(model);
  for (const NamedFlatUnit& named : flat_units(model)) named.unit->refuse_while_summoned("a state of kind full was made");
  // One unit whole at a time.
  for (const NamedFlatUnit& named : flat_units(model)) {
    const bool was_whole = named.unit->whole();
    named.unit->unshard(/*precise=*/true);
    for (NamedParameter& parameter : parameters) {
      if (parameter.unit != named.unit || (rank0_only && named.unit->job().rank() != 0)) continue;
      at::Tensor whole = at::empty_like(parameter.tensor).copy_(parameter.tensor);
      copies.push_back({parameter, std::move(whole)});
    }
    if (!was_whole || named.unit->options().mixed_precision.param_dtype) named.unit->reshard();
  }
}

void WholeCopies::write_back() const {
  const at::NoGradGuard no_grad;
  if (rank0_only_) return send_from_rank0();
  for (const Copy& copy : copies) {
    const FlatUnit& unit = *copy.parameter.unit;
    const Range mine = unit.layout().part(unit.shard_rank(), copy.parameter.index);
    if (mine.size() > 0) unit.shard_part(copy.parameter.index).copy_(copy.whole.view({-1}).narrow(0, mine.begin, mine.size()));
  }
}

void WholeCopies::send_from_rank0() const {
  for (const NamedFlatUnit& named : flat_units(model_)) {
    const FlatUnit& unit = *named.unit;
    const FlatLayout& layout = unit.layout();
    if (layout.numel == 0) continue;
    const at::Tensor flat = at::zeros({layout.numel}, unit.shard().options().requires_grad(false));
    for (const Copy& copy : copies) {
      if (copy.parameter.unit != named.unit) continue;
      const FlatParameter& place = layout.parameters.at(copy.parameter.index);
      flat.narrow(0, place.offset, place.numel).copy_(copy.whole.view({-1}));
    }
    unit.job().collectives().broadcast(flat, 0, named.key + ", from rank 0")->wait();
    const Range mine = layout.range(unit.shard_rank());
    unit.shard().detach().narrow(0, 0, mine.size()).copy_(flat.narrow(0, mine.begin, mine.size()));
  }
}

StateDict model_state(ModuleRef model, Kind kind, TensorViews& views, const WholeCopies* whole) {
  StateDict state;
  if (kind == Kind::local) {
    for (const NamedFlatUnit& named : flat_units(model)) add_by_all_names(state, named.key, named.aliases, flat_leaf(*named.unit, views));
  }
  for (const NamedParameter& parameter : named_parameters(model)) {
    if (parameter.unit && kind != Kind::sharded) continue;
    const at::Tensor part = parameter.unit ? parameter.unit->shard_part(parameter.index) : parameter.tensor;
    add_by_all_names(state, parameter.name, parameter.aliases, parameter_leaf(parameter, part, views));
  }
  if (kind == Kind::full) {
    for (const auto& [parameter, tensor] : whole->copies)
      add_by_all_names(state, parameter.name, parameter.aliases, replicated(views.view(tensor)));
  }
  for (const NamedBuffer& buffer : named_buffers(model))
    add_by_all_names(state, buffer.name, buffer.aliases, replicated(views.view(buffer.tensor, buffer.built_dtype)));
  return state;
}

void model_changed(ModuleRef model) {
  for (const NamedFlatUnit& named : flat_units(model)) named.unit->shard_changed();
}

}  // namespace tessera
