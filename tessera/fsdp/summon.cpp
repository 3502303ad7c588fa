#include "tessera/fsdp/summon.h"

#include <algorithm>

#include "tessera/base/error.h"
#include "tessera/fsdp/context.h"
#include "tessera/fsdp/contexts_below.h"
#include "tessera/fsdp/traversal.h"

namespace tessera {

SummonFullParams::SummonFullParams(ModuleRef module, const SummonOptions& options) : options_(options), contexts_(contexts_below(module)) {
  for (const auto& context : contexts_) {
    context->refuse_while_summoned("SummonFullParams was opened");
    if (context->idle()) continue;
    throw Error({.code = Code::invalid_argument,
                 .what = "SummonFullParams inside forward or backward",
                 .hint = "inside a module's forward its own parameters are whole already"});
  }
  if (options.rank0_only && options.writeback) {
    throw Error({.code = Code::invalid_argument,
                 .what = "SummonFullParams with rank0_only and writeback",
                 .hint = "ranks that see nothing have nothing to write back: set writeback to false"});
  }
  for (NamedFlatUnit& named : flat_units(module)) {
    if (options.recurse || named.module.empty()) units_.push_back(std::move(named.unit));
  }
  for (const auto& context : contexts_) context->begin_summon();
  try {
    const bool sees = !options.rank0_only || contexts_.empty() || contexts_.front()->job().rank() == 0;
    for (const auto& unit : units_) {
      unit->unshard(/*precise=*/true);
      if (options.offload_to_cpu && sees) unit->offload();
      if (options.with_grads) unit->show_gradients();
      if (sees) continue;
      unit->hide_gradients(false);
      unit->reshard();
    }
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
    unit->hide_gradients(options_.writeback);
    unit->reshard();
  }
  for (const auto& context : contexts_) context->end_summon();
}

}  // namespace tessera
