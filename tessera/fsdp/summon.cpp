#include "tessera/fsdp/summon.h"

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/fsdp/context.h"
#include "tessera/fsdp/contexts_below.h"
#include "tessera/fsdp/traversal.h"

namespace tessera {

SummonFullParams::SummonFullParams(ModuleRef module, const SummonOptions& options) : options_(options), contexts_(contexts_below(module)) {
  for (const auto& context : contexts_) {
    if (context->idle()) continue;
    throw Error({.code = Code::invalid_argument,
                 .what = "SummonFullParams inside forward or backward",
                 .hint = "inside a module's forward its own parameters are whole already"});
  }
  for (NamedFlatUnit& named : flat_units(module)) {
    if (options.recurse || named.module.empty()) units_.push_back(std::move(named.unit));
  }
  for (const auto& context : contexts_) context->begin_summon();
  try {
    for (const auto& unit : units_) unit->unshard();
  } catch (...) {
    options_.writeback = false;
    close();
    throw;
  }
}

SummonFullParams::~SummonFullParams() { close(); }

void SummonFullParams::close() {
  for (const auto& unit : units_) {
    if (options_.writeback) unit->write_back();
    unit->reshard();
  }
  for (const auto& context : contexts_) context->end_summon();
}

}  // namespace tessera
