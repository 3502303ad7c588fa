// tessera/fsdp/module_ref.h: a module, however the caller holds it: by reference, in a shared_ptr or in a holder (Linear,
// Wrapped<M>). A parameter type only: it borrows. It does not include torch/nn, which costs 20 s a file.
#pragma once

#include <utility>

namespace torch::nn {
class Module;
}

namespace tessera {

class ModuleRef {
 public:
  ModuleRef(torch::nn::Module& module) : module_(&module) {}
  // A holder has ptr(), a shared_ptr get(); both give a pointer to a class that derives from Module.
  template <class Holder>
    requires requires(const Holder& holder) { holder.ptr().get(); }
  ModuleRef(const Holder& holder) : module_(holder.ptr().get()) {}
  template <class Pointer>
    requires(requires(const Pointer& pointer) { pointer.use_count(); })
  ModuleRef(const Pointer& pointer) : module_(pointer.get()) {}

  torch::nn::Module& operator*() const { return *module_; }
  torch::nn::Module* operator->() const { return module_; }
  torch::nn::Module* get() const { return module_; }

 private:
  torch::nn::Module* module_;
};

}  // namespace tessera
