// tessera/libtorch/tensor_view.h: a LibTorch tensor as the file wing sees it: strided host bytes with a dtype.
// Errors      Error(unsupported) for dtypes that no checkpoint holds, for sparse and quantized tensors, and for lazy conj and neg bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "tessera/layout/view.h"

namespace tessera {

DType dtype_of(const at::Tensor& tensor);

// Views of tensors, whose memory they keep alive. What is not in host memory is copied there; after a load, write_back() brings the
// copies home.
class TensorViews {
 public:
  View view(const at::Tensor& tensor);
  void write_back() const;

 private:
  std::vector<std::pair<at::Tensor, at::Tensor>> staged_;  // device, host
};

}  // namespace tessera
