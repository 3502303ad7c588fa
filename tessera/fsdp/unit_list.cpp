#include "tessera/fsdp/unit_list.h"

#include <algorithm>
#include <cstdio>

#include "tessera/fsdp/module_unit.h"
#include "tessera/fsdp/traversal.h"
#include "tessera/fsdp/unit.h"
#include "tessera/fsdp/unit_counters.h"

namespace tessera {
namespace {

std::string mib(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

std::string dtype_name(at::ScalarType dtype) { return std::string(c10::getDtypeNames(dtype).first); }

std::string line(const std::string& name, const std::string& rest) {
  std::string padded = name;
  padded.resize(std::max<size_t>(name.size(), 32), ' ');
  return padded + " " + rest + "\n";
}

struct Outside {
  size_t count = 0;
  int64_t numel = 0;
  int64_t bytes = 0;
  int64_t gradient_bytes = 0;
  std::string names;
};

Outside outside_units(ModuleRef model) {
  Outside all;
  for (const NamedParameter& parameter : parameters_outside_units(model)) {
    ++all.count;
    all.numel += parameter.tensor.numel();
    all.bytes += static_cast<int64_t>(parameter.tensor.nbytes());
    if (parameter.tensor.grad().defined()) all.gradient_bytes += static_cast<int64_t>(parameter.tensor.grad().nbytes());
    all.names += "  " + parameter.name + "\n";
  }
  return all;
}

}  // namespace

std::vector<UnitInfo> unit_list(ModuleRef model) {
  std::vector<UnitInfo> list;
  for (const NamedFlatUnit& named : flat_units(model)) {
    const FlatUnit& unit = *named.unit;
    const FlatLayout& layout = unit.layout();
    const auto each = static_cast<int64_t>(unit.shard().element_size());
    UnitInfo info{.name = named.key,
                  .parameters = {},
                  .strategy = unit.strategy(),
                  .trainable = unit.trainable(),
                  .dtype = unit.shard().scalar_type(),
                  .param_dtype = unit.full().scalar_type(),
                  .numel = layout.numel,
                  .padding_bytes = (layout.padded_numel - layout.numel) * each,
                  .full_bytes = layout.padded_numel * static_cast<int64_t>(unit.full().element_size()),
                  .shard_bytes = layout.shard_numel * each,
                  .gradient_bytes = unit.shard().grad().defined() ? static_cast<int64_t>(unit.shard().grad().nbytes()) : 0,
                  .whole = unit.whole()};
    for (const auto& parameter : named.parameters) info.parameters.push_back(parameter.name);
    list.push_back(std::move(info));
  }
  return list;
}

std::string describe_units(ModuleRef model) {
  std::string text;
  int64_t numel = 0, padding = 0;
  const std::vector<UnitInfo> list = unit_list(model);
  for (const UnitInfo& unit : list) {
    numel += unit.numel;
    padding += unit.padding_bytes;
    std::string about = std::to_string(unit.numel) + " elements of " + dtype_name(unit.dtype);
    if (unit.param_dtype != unit.dtype) about += " (computes in " + dtype_name(unit.param_dtype) + ")";
    about += ", " + mib(unit.full_bytes) + " whole, " + mib(unit.shard_bytes) + " a rank, padding " + std::to_string(unit.padding_bytes) +
             " B, ";
    about += name(unit.strategy);
    if (!unit.trainable) about += ", frozen";
    text += line(unit.name, about);
    for (const std::string& parameter : unit.parameters) text += "  " + parameter + "\n";
  }
  if (const Outside outside = outside_units(model); outside.count > 0) {
    text += line("outside units", std::to_string(outside.numel) + " elements, " + mib(outside.bytes) + " on every rank") + outside.names;
  }
  return text + line("in all", std::to_string(list.size()) + " units, " + std::to_string(numel) + " elements, padding " +
                                   std::to_string(padding) + " B");
}

std::string memory_summary(ModuleRef model) {
  std::string text;
  int64_t shards = 0, gradients = 0, root = 0;
  std::vector<int64_t> others;
  for (const UnitInfo& unit : unit_list(model)) {
    shards += unit.shard_bytes;
    gradients += unit.gradient_bytes;
    text += line(unit.name, "shard " + mib(unit.shard_bytes) + ", its gradient " + mib(unit.gradient_bytes) + ", whole " +
                                mib(unit.full_bytes) + (unit.whole ? " (now)" : ""));
    if (unit.strategy == Strategy::no_shard) continue;
    if (unit.name.find('.') == std::string::npos) root += unit.full_bytes;
    else others.push_back(unit.full_bytes);
  }
  std::ranges::sort(others, std::greater{});
  others.resize(std::max<size_t>(others.size(), 2), 0);
  const UnitCounters counters = unit_counters(model);
  if (const Outside outside = outside_units(model); outside.count > 0) {
    text += line("outside units", mib(outside.bytes) + " on every rank, gradients " + mib(outside.gradient_bytes));
  }
  text += line("shards", mib(shards) + ", gradients " + mib(gradients));
  text += line("whole parameters", mib(counters.parameter_bytes) + " now, " + mib(counters.parameter_peak_bytes) +
                                       " at the peak; the least is " + mib(root + others[0] + others[1]) +
                                       ", the root and the two largest others");
  text += line("whole gradients", mib(counters.gradient_bytes) + " now, " + mib(counters.gradient_peak_bytes) +
                                      " at the peak; the least is " + mib(std::max(root, others[0])) + ", those of one unit");
  text += line("buffers", mib(counters.held_bytes) + " now, of which " + mib(counters.kept_bytes) + " are kept for the next, " +
                              mib(counters.held_peak_bytes) + " at the peak");
  return text;
}

}  // namespace tessera
