#include "tessera/libtorch/tensor_view.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <unordered_set>

#include "tessera/base/error.h"
#include "tessera/collectives/host_memory.h"

namespace tessera {

DType dtype_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kDouble: return DType::float64;
    case at::kFloat: return DType::float32;
    case at::kHalf: return DType::float16;
    case at::kBFloat16: return DType::bfloat16;
    case at::kLong: return DType::int64;
    case at::kInt: return DType::int32;
    case at::kShort: return DType::int16;
    case at::kChar: return DType::int8;
    case at::kByte: return DType::uint8;
    case at::kBool: return DType::boolean;
    case at::kComplexFloat: return DType::complex64;
    case at::kComplexDouble: return DType::complex128;
    case at::kComplexHalf: return DType::complex32;
    case at::kUInt16: return DType::uint16;
    case at::kUInt32: return DType::uint32;
    case at::kUInt64: return DType::uint64;
    case at::kFloat8_e4m3fn: return DType::float8_e4m3fn;
    case at::kFloat8_e5m2: return DType::float8_e5m2;
    case at::kFloat8_e4m3fnuz: return DType::float8_e4m3fnuz;
    case at::kFloat8_e5m2fnuz: return DType::float8_e5m2fnuz;
    case at::kFloat8_e8m0fnu: return DType::float8_e8m0fnu;
    default:
      throw Error(
          {.code = Code::unsupported, .what = std::string("no checkpoint holds tensors of ") + c10::toString(tensor.scalar_type())});
  }
}

View TensorViews::view(const at::Tensor& tensor, std::optional<at::ScalarType> as) {
  if (tensor.layout() != at::kStrided || tensor.is_conj() || tensor.is_neg()) {
    throw Error({.code = Code::unsupported,
                 .what = "a tensor that is sparse, or a lazy conjugate or negative",
                 .hint = "make it plain first: to_dense(), resolve_conj(), resolve_neg()"});
  }
  at::Tensor host = tensor.detach();
  if (!host.device().is_cpu() || (as && *as != host.scalar_type())) {
    const at::NoGradGuard no_grad;
    host = empty_on_host(tensor, as);
    host.copy_(tensor.to(host.scalar_type()), /*non_blocking=*/true);
    staged_.emplace_back(tensor.detach(), WeakTensor(host));
  }
  const auto owner = std::make_shared<at::Tensor>(host);
  return {static_cast<std::byte*>(host.numel() ? host.data_ptr() : nullptr), dtype_of(host), host.sizes().vec(), host.strides().vec(),
          owner};
}

void TensorViews::wait() const {
  std::unordered_set<at::Device> waited{at::kCPU};
  for (const auto& [tensor, copy] : staged_) {
    const at::Device device = tensor.device();
    if (waited.insert(device).second) c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
  }
}

void TensorViews::write_back() const {
  const at::NoGradGuard no_grad;
  bool any = staged_.empty();
  for (const auto& [tensor, copy] : staged_) {
    const at::Tensor host = copy.lock();
    if (!host.defined()) continue;  // a view that no description took
    any = true;
    tensor.copy_(host.to(tensor.scalar_type()), /*non_blocking=*/true);
  }
  if (!any) throw gone("what a load has filled is gone");
  wait();
}

}  // namespace tessera
