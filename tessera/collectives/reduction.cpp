#include "tessera/collectives/reduction.h"

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cassert>
#include <type_traits>

namespace tessera {
namespace {

// What a T is summed in. Integers wrap, which only unsigned ones may.
template <class T, bool = std::is_integral_v<T>>
struct Sum {
  using type = std::make_unsigned_t<T>;
};
template <class T>
struct Sum<T, false> {
  using type = std::conditional_t<std::is_same_v<T, double>, double, float>;
};

template <class Wide>
Wide larger(Wide a, Wide b) {
  // Written so that a NaN on either side is what is left.
  return (a > b || a != a) ? a : b;
}

constexpr int64_t block = 1024;  // elements whose intermediate results stay in the nearest cache

template <class T, class Wide, class Combine>
void reduce_blocks(T* out, std::span<const void* const> parts, int64_t numel, Wide scale, Combine combine) {
  Wide so_far[block];
  for (int64_t begin = 0; begin < numel; begin += block) {
    const int64_t count = std::min(block, numel - begin);
    const T* first = static_cast<const T*>(parts[0]) + begin;
    for (int64_t i = 0; i < count; ++i) so_far[i] = static_cast<Wide>(first[i]);
    for (const void* part : parts.subspan(1)) {
      const T* next = static_cast<const T*>(part) + begin;
      for (int64_t i = 0; i < count; ++i) so_far[i] = combine(so_far[i], static_cast<Wide>(next[i]));
    }
    if (scale != Wide(1)) {
      for (int64_t i = 0; i < count; ++i) so_far[i] *= scale;
    }
    for (int64_t i = 0; i < count; ++i) out[begin + i] = static_cast<T>(so_far[i]);
  }
}

template <class T>
void reduce(void* out, std::span<const void* const> parts, int64_t numel, Reduce how) {
  using Wide = typename Sum<T>::type;
  using Compared = std::conditional_t<std::is_integral_v<T>, T, Wide>;
  T* to = static_cast<T*>(out);
  if (how == Reduce::max) {
    reduce_blocks<T, Compared>(to, parts, numel, 1, [](Compared a, Compared b) { return larger(a, b); });
    return;
  }
  Wide scale = 1;
  if constexpr (!std::is_integral_v<T>) {
    if (how == Reduce::mean) scale = static_cast<Wide>(1.0 / static_cast<double>(parts.size()));
  }
  reduce_blocks<T, Wide>(to, parts, numel, scale, [](Wide a, Wide b) { return static_cast<Wide>(a + b); });
}

}  // namespace

void reduce_in_order(void* out, std::span<const void* const> parts, int64_t numel, c10::ScalarType dtype, Reduce how) {
  using c10::ScalarType;
  switch (dtype) {
    case ScalarType::Float: return reduce<float>(out, parts, numel, how);
    case ScalarType::Double: return reduce<double>(out, parts, numel, how);
    case ScalarType::BFloat16: return reduce<c10::BFloat16>(out, parts, numel, how);
    case ScalarType::Half: return reduce<c10::Half>(out, parts, numel, how);
    case ScalarType::Long: return reduce<int64_t>(out, parts, numel, how);
    case ScalarType::Int: return reduce<int32_t>(out, parts, numel, how);
    case ScalarType::Char: return reduce<int8_t>(out, parts, numel, how);
    case ScalarType::Byte: return reduce<uint8_t>(out, parts, numel, how);
    default: assert(false && "arguments.h lets no other dtype pass");
  }
}

}  // namespace tessera
