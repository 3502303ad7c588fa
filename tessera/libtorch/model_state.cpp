#include "tessera/libtorch/model_state.h"

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
  if (!parameter.unit) return replicated(views.view(part), /*alike=*/false);
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

std::optional<TensorLeaf> parameter_leaf(const NamedParameter& parameter, const std::string& what, const at::Tensor& part,
                                         TensorViews& views, const WholeTensors* whole) {
  if (!whole || !parameter.unit) return parameter_leaf(parameter, part, views);
  const at::Tensor tensor = whole->of(parameter, what);
  if (!tensor.defined()) return std::nullopt;
  return replicated(views.view(tensor));
}

std::vector<ShardPart> shard_parts(ModuleRef model) {
  for (const NamedFlatUnit& named : flat_units(model)) named.unit->refuse_while_summoned("a state of kind full was made");
  std::vector<ShardPart> parts;
  for (const NamedParameter& parameter : named_parameters(model)) {
    if (parameter.unit) parts.push_back({parameter, {}, parameter.unit->shard_part(parameter.index)});
  }
  return parts;
}

StateDict model_state(ModuleRef model, Kind kind, TensorViews& views, const WholeTensors* whole) {
  StateDict state;
  if (kind == Kind::local) {
    for (const NamedFlatUnit& named : flat_units(model)) add_by_all_names(state, named.key, named.aliases, flat_leaf(*named.unit, views));
  }
  for (const NamedParameter& parameter : named_parameters(model)) {
    if (parameter.unit && kind == Kind::local) continue;
    const at::Tensor part = parameter.unit ? parameter.unit->shard_part(parameter.index) : parameter.tensor;
    const auto leaf = parameter_leaf(parameter, {}, part, views, kind == Kind::full ? whole : nullptr);
    if (leaf) add_by_all_names(state, parameter.name, parameter.aliases, *leaf);
  }
  for (const NamedBuffer& buffer : named_buffers(model))
    add_by_all_names(state, buffer.name, buffer.aliases, replicated(views.view(buffer.tensor, buffer.built_dtype), /*alike=*/false));
  return state;
}

void model_changed(ModuleRef model) {
  for (const NamedFlatUnit& named : flat_units(model)) named.unit->shard_changed();
}

}  // namespace tessera
