// tessera/fsdp/ignored_tensors.h: the tensors of a model that units leave alone (ignore.h). It keeps none of them alive.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/UndefinedTensorImpl.h>

#include <unordered_map>

namespace tessera {

class IgnoredTensors {
 public:
  void add(const at::Tensor& tensor) { tensors_.emplace(tensor.unsafeGetTensorImpl(), tensor.getIntrusivePtr()); }
  bool contains(const at::Tensor& tensor) const { return tensors_.contains(tensor.unsafeGetTensorImpl()); }

 private:
  // A weak reference lets a tensor's values go, but not its address: no other tensor can be taken for it.
  using Weak = c10::weak_intrusive_ptr<c10::TensorImpl, c10::UndefinedTensorImpl>;
  std::unordered_map<const void*, Weak> tensors_;
};

}  // namespace tessera
