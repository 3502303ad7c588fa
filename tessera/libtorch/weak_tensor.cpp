#include "tessera/libtorch/weak_tensor.h"

#include <ATen/ops/empty.h>

#include <utility>

namespace tessera {

WeakTensor::WeakTensor(const at::Tensor& tensor)
    : storage_(tensor.storage().getWeakStorageImpl()), dtype_(tensor.scalar_type()), sizes_(tensor.sizes().vec()) {}

at::Tensor WeakTensor::lock() const {
  auto alive = storage_.lock();
  if (!alive) return {};
  return at::empty({0}, dtype_).set_(c10::Storage(std::move(alive)), 0, sizes_);
}

Error gone(std::string what) {
  return Error({.code = Code::invalid_argument,
                .what = std::move(what),
                .hint = "load_state_dict() takes what the last state_dict() gave, after load() has filled it"});
}

}  // namespace tessera
