// tessera/fsdp/visit_tensors.h: the tensors in a value: alone, or in std::tuple, pair, vector, array, optional, map and unordered_map
// (their values), inside each other too, or in a type of yours with a function visit_tensors(const T&, visit) beside it that calls
// visit(tensor) on each member that is a tensor, always in the same order; tessera::visit_tensors(member, visit) does it for what a
// container member holds. Copies      Tensors are cast, and kept for a second run of forward, in a copy of the value: a copy of a type of
// yours has tensors of its
//             own, as one that holds them in a shared_ptr has not.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Scalar.h>
#include <c10/util/ArrayRef.h>

#include <array>
#include <functional>
#include <map>
#include <optional>
#include <ranges>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tessera {

// Calls visit(const at::Tensor&) on every tensor in what forward takes or gives.
template <class Visit>
void visit_tensors(const at::Tensor& tensor, Visit& visit) {
  visit(tensor);
}
template <class T, class Visit>
  requires(std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_same_v<T, std::string> || std::is_same_v<T, at::Scalar>)
void visit_tensors(const T&, Visit&) {}
template <class T, class Visit>
void visit_tensors(const std::optional<T>& value, Visit& visit);
template <class T, class A, class Visit>
void visit_tensors(const std::vector<T, A>& values, Visit& visit);
template <class T, size_t n, class Visit>
void visit_tensors(const std::array<T, n>& values, Visit& visit);
template <class A, class B, class Visit>
void visit_tensors(const std::pair<A, B>& values, Visit& visit);
template <class... T, class Visit>
void visit_tensors(const std::tuple<T...>& values, Visit& visit);
template <class K, class T, class C, class A, class Visit>
void visit_tensors(const std::map<K, T, C, A>& values, Visit& visit);
template <class K, class T, class H, class E, class A, class Visit>
void visit_tensors(const std::unordered_map<K, T, H, E, A>& values, Visit& visit);

template <class T, class Visit>
void visit_tensors(const std::optional<T>& value, Visit& visit) {
  if (value) visit_tensors(*value, visit);
}
template <class T, class A, class Visit>
void visit_tensors(const std::vector<T, A>& values, Visit& visit) {
  for (const T& value : values) visit_tensors(value, visit);
}
template <class T, size_t n, class Visit>
void visit_tensors(const std::array<T, n>& values, Visit& visit) {
  for (const T& value : values) visit_tensors(value, visit);
}
template <class A, class B, class Visit>
void visit_tensors(const std::pair<A, B>& values, Visit& visit) {
  visit_tensors(values.first, visit);
  visit_tensors(values.second, visit);
}
template <class... T, class Visit>
void visit_tensors(const std::tuple<T...>& values, Visit& visit) {
  std::apply([&](const auto&... value) { (visit_tensors(value, visit), ...); }, values);
}
template <class K, class T, class C, class A, class Visit>
void visit_tensors(const std::map<K, T, C, A>& values, Visit& visit) {
  for (const auto& [key, value] : values) visit_tensors(value, visit);
}
// The order is that of a copy too, and of a map that was filled alike: so it is in libstdc++.
template <class K, class T, class H, class E, class A, class Visit>
void visit_tensors(const std::unordered_map<K, T, H, E, A>& values, Visit& visit) {
  for (const auto& [key, value] : values) visit_tensors(value, visit);
}

// True if visit_tensors() takes a T.
struct VisitsNothing {
  void operator()(const at::Tensor&) const {}
};
template <class T>
inline constexpr bool has_tensors_to_visit = requires(const T& value, VisitsNothing& visit) { visit_tensors(value, visit); };
template <class T>
inline constexpr bool has_tensors_to_visit<std::optional<T>> = has_tensors_to_visit<T>;
template <class T, class A>
inline constexpr bool has_tensors_to_visit<std::vector<T, A>> = has_tensors_to_visit<T>;
template <class T, size_t n>
inline constexpr bool has_tensors_to_visit<std::array<T, n>> = has_tensors_to_visit<T>;
template <class A, class B>
inline constexpr bool has_tensors_to_visit<std::pair<A, B>> = has_tensors_to_visit<A> && has_tensors_to_visit<B>;
template <class... T>
inline constexpr bool has_tensors_to_visit<std::tuple<T...>> = (has_tensors_to_visit<T> && ...);
template <class K, class T, class C, class A>
inline constexpr bool has_tensors_to_visit<std::map<K, T, C, A>> = has_tensors_to_visit<T>;
template <class K, class T, class H, class E, class A>
inline constexpr bool has_tensors_to_visit<std::unordered_map<K, T, H, E, A>> = has_tensors_to_visit<T>;

// True where a copy of a T is still about what somebody else holds: references, and views as at::ArrayRef, std::span and std::string_view.
template <class T>
inline constexpr bool is_borrowed = std::is_reference_v<T> || std::ranges::view<T>;
template <class T>
inline constexpr bool is_borrowed<at::ArrayRef<T>> = true;
template <class T>
inline constexpr bool is_borrowed<std::reference_wrapper<T>> = true;
template <class T>
inline constexpr bool is_borrowed<std::optional<T>> = is_borrowed<T>;
template <class T, class A>
inline constexpr bool is_borrowed<std::vector<T, A>> = is_borrowed<T>;
template <class A, class B>
inline constexpr bool is_borrowed<std::pair<A, B>> = is_borrowed<A> || is_borrowed<B>;
template <class... T>
inline constexpr bool is_borrowed<std::tuple<T...>> = (is_borrowed<T> || ...);

// visit(at::Tensor&), which may replace it, for each tensor in a value that is the caller's own.
template <class T, class Visit>
void visit_own_tensors(T& value, Visit visit) {
  static_assert(!std::is_const_v<T>);
  // The value is not const: nor are its tensors.
  auto each = [&](const at::Tensor& tensor) { visit(const_cast<at::Tensor&>(tensor)); };
  visit_tensors(std::as_const(value), each);
}

}  // namespace tessera
