// tessera/fsdp/visit_tensors.h: the tensors in a value: alone, or in std::tuple, pair, vector, array, optional, or in a type of yours with
// a function visit_tensors(const T&, visit) beside it that calls visit(tensor) on each, always in the same order.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace tessera {

// Calls visit(const at::Tensor&) on every tensor in a forward's result.
template <class Visit>
void visit_tensors(const at::Tensor& tensor, Visit& visit) {
  visit(tensor);
}
template <class T, class Visit>
  requires(std::is_arithmetic_v<T> || std::is_enum_v<T> || std::is_same_v<T, std::string>)
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

}  // namespace tessera
