// tessera/fsdp/no_sync.h: gradients of several backward passes, reduced once.
//   { NoSync quiet(model); loss(model(first)).backward(); }
//   loss(model(second)).backward();  // reduces the sum of both
// While it lives, backward adds to the gradients of this rank without talking to others; the first backward after it
// reduces the sum. It costs the memory of whole gradients. Every rank does the same.
#pragma once

#include <memory>
#include <vector>

#include "tessera/fsdp/module_ref.h"

namespace tessera {

class FsdpContext;

class NoSync {
 public:
  explicit NoSync(ModuleRef model);
  ~NoSync();
  NoSync(const NoSync&) = delete;
  NoSync& operator=(const NoSync&) = delete;

 private:
  std::vector<std::shared_ptr<FsdpContext>> contexts_;
};

}  // namespace tessera
