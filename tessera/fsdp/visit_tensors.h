// tessera/fsdp/visit_tensors.h: the tensors in a value.
// Seen        A tensor alone; those in std::tuple, pair, vector, array, optional, map and unordered_map (their values), inside each other
//             too; those in a type of yours with a function visit_tensors(const T&, visit) beside it, which calls visit(tensor) on each
//             member that is a tensor, always in the same order, and tessera::visit_tensors(member, visit) on each that is a container.
//             Numbers, enums, std::string, at::Scalar, at::Device and std::nullopt_t hold none.
// Not seen    Any tensor in a value one part of which is something else (a pointer, a view, a std::reference_wrapper, a type without that
//             function): nobody knows what it holds, so the whole value counts as one in which nothing is seen.
// Copies      Tensors are cast, and kept for a second run of forward, in a copy of the value (owned_tensors.h).
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Scalar.h>

#include <array>
#include <concepts>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tessera {

// What holds no tensor, and cannot.
template <class T>
concept plain_value = std::is_arithmetic_v<T> || std::is_enum_v<T> || std::same_as<T, std::string> || std::same_as<T, at::Scalar> ||
                      std::same_as<T, at::Device> || std::same_as<T, std::nullopt_t>;

// Calls visit(const at::Tensor&) on every tensor in what forward takes or gives.
// Exactly a tensor: what converts to one may be somebody else's.
template <std::same_as<at::Tensor> T, class Visit>
void visit_tensors(const T& tensor, Visit& visit) {
  visit(tensor);
}
template <plain_value T, class Visit>
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

// What a container holds: values, in which tensors are looked for, and keys, in which they are not.
template <class... T>
struct Types {
  static constexpr bool all([[maybe_unused]] auto is) { return (is(std::type_identity<T>()) && ...); }
};
template <class V, class K = Types<>>
struct Holding {
  using values = V;
  using keys = K;
};
template <class T>
struct Container : Holding<Types<>> {};
template <class T>
struct Container<std::optional<T>> : Holding<Types<T>> {};
template <class T, class A>
struct Container<std::vector<T, A>> : Holding<Types<T>> {};
template <class T, size_t n>
struct Container<std::array<T, n>> : Holding<Types<T>> {};
template <class A, class B>
struct Container<std::pair<A, B>> : Holding<Types<A, B>> {};
template <class... T>
struct Container<std::tuple<T...>> : Holding<Types<T...>> {};
template <class K, class T, class C, class A>
struct Container<std::map<K, T, C, A>> : Holding<Types<T>, Types<K>> {};
template <class K, class T, class H, class E, class A>
struct Container<std::unordered_map<K, T, H, E, A>> : Holding<Types<T>, Types<K>> {};
template <class T>
using ValuesIn = typename Container<std::remove_cvref_t<T>>::values;
template <class T>
using KeysIn = typename Container<std::remove_cvref_t<T>>::keys;

// True if visit_tensors() takes a T, and all that it holds.
struct VisitsNothing {
  void operator()(const at::Tensor&) const {}
};
template <class T>
inline constexpr bool has_tensors_to_visit = requires(const std::remove_cvref_t<T>& value, VisitsNothing& visit) {
  visit_tensors(value, visit);
} && ValuesIn<T>::all([]<class V>(std::type_identity<V>) { return has_tensors_to_visit<V>; });

// True if there can be no tensor in a T.
template <class T>
inline constexpr bool is_tensorless =
    plain_value<std::remove_cvref_t<T>> ||
    (!std::is_same_v<ValuesIn<T>, Types<>> && ValuesIn<T>::all([]<class V>(std::type_identity<V>) { return is_tensorless<V>; }));

}  // namespace tessera
