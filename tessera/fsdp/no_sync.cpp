#include "tessera/fsdp/no_sync.h"

#include "tessera/fsdp/context.h"
#include "tessera/fsdp/contexts_below.h"

namespace tessera {

NoSync::NoSync(ModuleRef model) : contexts_(contexts_below(model)) {
  for (const auto& context : contexts_) context->begin_no_sync();
}

NoSync::~NoSync() {
  for (const auto& context : contexts_) context->end_no_sync();
}

}  // namespace tessera
