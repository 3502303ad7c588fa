// tessera/fsdp/owned_tensors.h: values whose tensors may be replaced by others, in the value itself or in a copy of it.
// Own         Not those that a value only refers to (std::tie), nor const ones. A type of yours with a function visit_tensors()
//             (visit_tensors.h) must hold its tensors itself, not in a shared_ptr, and not as const members: nobody can see that here.
// Copies      A container is copied where all that is in it can be. A type of yours that holds a std::vector of what can only be moved must
//             say itself that it cannot be copied: std::vector does not.
#pragma once

#include <ATen/core/Tensor.h>

#include <ranges>
#include <type_traits>
#include <utility>

#include "tessera/fsdp/visit_tensors.h"

namespace tessera {

// True where the tensors in a T are its own and not const.
template <class T>
inline constexpr bool owns_tensors = !std::is_reference_v<T> && !std::ranges::view<T> && (!std::is_const_v<T> || is_tensorless<T>) &&
                                     ValuesIn<T>::all([]<class V>(std::type_identity<V>) { return owns_tensors<V>; });

// True where a T can be copied with all that it holds. (std::vector and maps say so whatever they hold.)
template <class T>
inline constexpr bool is_copyable =
    std::is_copy_constructible_v<T> && ValuesIn<T>::all([]<class V>(std::type_identity<V>) { return is_copyable<V>; }) &&
    KeysIn<T>::all([]<class K>(std::type_identity<K>) { return is_copyable<K>; });

// visit(at::Tensor&), which may replace it, for each tensor in a value that is the caller's own.
template <class T, class Visit>
void visit_own_tensors(T& value, Visit visit) {
  static_assert(owns_tensors<T>);
  // Neither the value is const nor its tensors.
  auto each = [&](const at::Tensor& tensor) { visit(const_cast<at::Tensor&>(tensor)); };
  visit_tensors(std::as_const(value), each);
}

}  // namespace tessera
