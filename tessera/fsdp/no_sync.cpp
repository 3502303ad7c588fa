#include "tessera/fsdp/no_sync.h"

#include "tessera/fsdp/context.h"
#include "tessera/fsdp/contexts_below.h"

namespace tessera {

NoSync::NoSync(ModuleRef model, const NoSyncOptions& options) : options_(options), contexts_(contexts_below(model)) {
  for (const auto& context : contexts_) context->begin_no_sync(options_.among_replicas_only);
}

NoSync::~NoSync() {
  for (const auto& context : contexts_) context->end_no_sync(options_.among_replicas_only);
}

}  // namespace tessera
