// tessera/fsdp/no_sync.h: gradients of several backward passes, reduced once.
//   { NoSync quiet(model); loss(model(first)).backward(); }
//   loss(model(second)).backward();  // reduces the sum of both
// While it lives, backward adds to the gradients of this rank without talking to others; the first backward after it
// reduces the sum. It costs the memory of whole gradients. Every rank does the same.
// Of a hybrid strategy, { .among_replicas_only = true } reduces each backward within its shard group, and leaves the replicas to the last:
// it costs the memory of a shard's gradient. In units without a shard group nobody talks.
#pragma once

#include <memory>
#include <vector>

#include "tessera/fsdp/module_ref.h"

namespace tessera {

class FsdpContext;

struct NoSyncOptions {
  bool among_replicas_only = false;
};

class NoSync {
 public:
  explicit NoSync(ModuleRef model, const NoSyncOptions& options = {});
  ~NoSync();
  NoSync(const NoSync&) = delete;
  NoSync& operator=(const NoSync&) = delete;

 private:
  const NoSyncOptions options_;
  std::vector<std::shared_ptr<FsdpContext>> contexts_;
};

}  // namespace tessera
