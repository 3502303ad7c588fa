// tessera/fsdp/unit_argument.h: an argument of forward as a unit takes it, with its floating-point tensors in the dtype that the unit
// computes in (MixedPrecision::cast_inputs).
// Tensors     Those that visit_tensors.h sees: the argument itself, or what is in a container, or in a type of yours with that function.
// Copies      Where one of them has another dtype, forward is given a copy of the argument with cast tensors in it; what the caller gave
//             away (an rvalue) is moved there. Where all are right, forward is given the argument itself.
// Filled      A container that forward takes by a reference that is not const is there for forward to change: it is always the caller's
//             own, and nothing in it is cast. (A tensor that is taken so is cast, and what forward assigns to it is lost then.)
//             A template's forward(T&&) takes temporaries as well, and is taken for one that only reads: it is given a copy where something
//             is to be cast, and what it puts there is lost. Let it take auto& what it fills.
// As it is    What cannot be copied; what only refers to tensors, as std::tie() does, or holds const ones; and a container a part of which
//             visit_tensors() does not take, whatever else is in it: std::pair<at::Tensor, std::shared_ptr<X>>.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "tessera/fsdp/owned_tensors.h"
#include "tessera/fsdp/visit_tensors.h"

namespace tessera {

inline bool needs_cast(const at::Tensor& tensor, at::ScalarType dtype) {
  return tensor.defined() && tensor.is_floating_point() && tensor.scalar_type() != dtype;
}

template <class M, class... A>
concept forwards = requires(M& module, A&&... arguments) { module.forward(std::forward<A>(arguments)...); };

// True where a T is a container, or a type of a user's, in which tensors can be cast.
template <class T>
inline constexpr bool holds_own_tensors = !std::is_same_v<T, at::Tensor> && has_tensors_to_visit<T> && owns_tensors<T> && !is_tensorless<T>;

// True where M's forward takes the i-th of arguments A&&… by a reference that is not const: nothing temporary would do.
// It is asked only of what would be cast: the question compiles forwards that return auto.
template <class M, size_t i, class... A>
constexpr bool is_filled() {
  using Given = std::tuple_element_t<i, std::tuple<A&&...>>;
  if constexpr (!std::is_lvalue_reference_v<Given> || !holds_own_tensors<std::remove_reference_t<Given>>) {
    return false;
  } else {
    return []<size_t... j>(std::index_sequence<j...>) {
      return !forwards<M, std::conditional_t<i == j, std::remove_reference_t<A>, A>...>;
    }(std::index_sequence_for<A...>());
  }
}

// A list of somebody else's as a list of its own, which lasts as long as it is needed; anything else as it is.
template <class A>
inline constexpr bool is_borrowed_list = false;
template <class T>
inline constexpr bool is_borrowed_list<at::ArrayRef<T>> = !std::is_same_v<T, bool>;
template <class A>
decltype(auto) as_own_list(A&& argument) {
  if constexpr (is_borrowed_list<std::remove_cvref_t<A>>) return argument.vec();
  else return std::forward<A>(argument);
}

template <class A, bool is_filled>
class UnitArgument {
 public:
  UnitArgument(std::optional<at::ScalarType> dtype, std::remove_reference_t<A>& given) : given_(given) {
    if constexpr (is_cast) {
      bool is_right = true;
      auto look = [&](const at::Tensor& tensor) { is_right = is_right && !needs_cast(tensor, *dtype); };
      if (dtype) visit_tensors(std::as_const(given), look);
      if (is_right) return;
      cast_.emplace(static_cast<A&&>(given));
      visit_own_tensors(*cast_, [&](at::Tensor& tensor) {
        if (needs_cast(tensor, *dtype)) tensor = tensor.to(*dtype);
      });
    }
  }
  A&& get() {
    if constexpr (is_cast) {
      if (cast_) return static_cast<A&&>(*cast_);
    }
    return static_cast<A&&>(given_);
  }

 private:
  using T = std::remove_cvref_t<A>;
  static constexpr bool is_cast = [] {
    if constexpr (std::is_same_v<T, at::Tensor>) return true;
    else if constexpr (is_filled || !holds_own_tensors<T>) return false;
    else if constexpr (std::is_same_v<A&&, T&&>) return std::is_move_constructible_v<T>;
    else return is_copyable<T>;
  }();
  struct Nothing {};

  std::remove_reference_t<A>& given_;
  std::conditional_t<is_cast, std::optional<T>, Nothing> cast_{};
};

}  // namespace tessera
