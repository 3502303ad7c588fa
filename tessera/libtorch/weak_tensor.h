// tessera/libtorch/weak_tensor.h: a tensor for as long as somebody else holds its memory, as the views of a description do. Those are other
// tensors on the same storage: it is the storage that is referred to.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/StorageImpl.h>

#include <string>
#include <vector>

#include "tessera/base/error.h"

namespace tessera {

class WeakTensor {
 public:
  // Of a contiguous tensor in host memory that has its storage for itself.
  explicit WeakTensor(const at::Tensor& tensor);
  // Undefined where it is gone.
  at::Tensor lock() const;

 private:
  c10::weak_intrusive_ptr<c10::StorageImpl> storage_;
  at::ScalarType dtype_;
  std::vector<int64_t> sizes_;
};

// What a load was to fill is gone before load_state_dict() takes it, as `what` says.
Error gone(std::string what);

}  // namespace tessera
