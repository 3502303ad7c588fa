// tessera/fsdp/tensors_before.h: which tensors in the arguments of forward are new after it: put there, or changed in place.
// Backward comes through those as through what forward returns.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "tessera/fsdp/owned_tensors.h"
#include "tessera/fsdp/visit_tensors.h"

namespace tessera {

class TensorsBefore {
 public:
  // The types A are those of forwarding references: lvalues may be filled, and what only refers to tensors.
  template <class... A>
  explicit TensorsBefore(Types<A...>, const std::remove_reference_t<A>&... arguments) {
    auto note = [&](const at::Tensor& tensor) {
      if (tensor.defined()) before_.push_back({Weak(tensor.getIntrusivePtr()), version_of(tensor)});
    };
    (look<A>(arguments, note), ...);
  }
  // visit(tensor) on each that is new, in the arguments that the constructor was given.
  template <class... A, class Visit>
  void visit_new(Types<A...>, Visit visit, const std::remove_reference_t<A>&... arguments) const {
    auto look_up = [&](const at::Tensor& tensor) {
      const auto is_same = [&](const Before& before) {
        return before.tensor._unsafe_get_target() == tensor.unsafeGetTensorImpl() && before.version == version_of(tensor);
      };
      if (tensor.defined() && !std::ranges::any_of(before_, is_same)) visit(tensor);
    };
    (look<A>(arguments, look_up), ...);
  }

 private:
  // Weak: forward may free what was there. No other tensor gets its place as long as this lives.
  using Weak = c10::weak_intrusive_ptr<at::TensorImpl, c10::UndefinedTensorImpl>;
  struct Before {
    Weak tensor;
    int64_t version;
  };
  static int64_t version_of(const at::Tensor& tensor) { return tensor.is_inference() ? 0 : tensor._version(); }

  template <class A>
  static void look(const std::remove_reference_t<A>& argument, auto& visit) {
    using T = std::remove_reference_t<A>;
    if constexpr (has_tensors_to_visit<T> && !is_tensorless<T>) {
      constexpr bool is_read = std::is_const_v<T> || !std::is_lvalue_reference_v<A>;
      if constexpr (!is_read || !owns_tensors<std::remove_const_t<T>>) visit_tensors(argument, visit);
    }
  }

  std::vector<Before> before_;
};

}  // namespace tessera
