// tessera/libtorch/tensor_view.h: a LibTorch tensor as the file wing sees it: strided host bytes with a dtype.
// Errors      Error(unsupported) for dtypes that no checkpoint holds, for sparse and quantized tensors, and for lazy conj and neg bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <utility>
#include <vector>

#include "tessera/layout/view.h"
#include "tessera/libtorch/weak_tensor.h"

namespace tessera {

DType dtype_of(const at::Tensor& tensor);

// Views of tensors, whose memory they keep alive. What is not in host memory, or is wanted in another dtype, is copied there; after a load,
// write_back() brings the copies home.
// GPUs        Copies are made on the tensor's current stream, between pinned memory and the GPU, all of them before anybody waits: nothing
//             is to be read in a view before wait() has returned. write_back() waits itself.
// Memory      Copies live as long as their views. Pinned memory stays with LibTorch's allocator, which takes powers of two.
// Errors      write_back() throws Error(invalid_argument) where all views are gone. (One that is gone alone held nothing that was loaded.)
class TensorViews {
 public:
  View view(const at::Tensor& tensor, std::optional<at::ScalarType> as = {});
  void wait() const;
  void write_back() const;

 private:
  std::vector<std::pair<at::Tensor, WeakTensor>> staged_;  // as it is, as it is seen
};

}  // namespace tessera
