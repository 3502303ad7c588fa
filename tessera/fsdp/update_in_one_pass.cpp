// Where ATen runs its AVX2 or AVX-512 loops, x + α·y, x + α·y·z and lerp end in a fused multiply-add, in the scalar code after the last
// whole vector too: one rounding. Everything else there is rounded operation by operation, and scalars are rounded to the
// element's type first. Square roots are ATen's own: MKL's, where the wheel has it, is off by a last bit for one number in 150.
// update_test.cpp holds these loops against ATen's operations. This file is built with -ffp-contract=off,
// so that the multiply-adds are those that are written here, and with -O3 for vectors in every build.
#include "tessera/fsdp/update.h"

#if defined(__x86_64__)

#include <ATen/Version.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/sqrt.h>

#include <algorithm>

namespace tessera {
namespace {

bool aten_multiplies_and_adds_at_once() {
  static const std::string capability = at::get_cpu_capability();
  return capability == "AVX2" || capability == "AVX512";
}

// a·b + c
[[gnu::always_inline]] inline float madd(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
[[gnu::always_inline]] inline double madd(double a, double b, double c) { return __builtin_fma(a, b, c); }

template <class Element>
[[gnu::target("avx2,fma")]] void for_each_element(const Element element, int64_t begin, int64_t end) {
#pragma GCC ivdep
  for (int64_t i = begin; i < end; ++i) element(i);
}

// For every element first(i), which leaves a number in `squares`, and then second(i, its root). Roots are taken of a block at a time, and
// one block's second shares a loop with the next one's first: that one waits for memory, this one for divisions.
template <class T, class First, class Second>
void around_roots(const at::Tensor& squares, const First& first, const Second& second) {
  constexpr int64_t block = (int64_t{1} << 17) / sizeof(T);  // what two of them touch stays in the cache
  const int64_t numel = squares.numel();
  at::Tensor roots = at::empty({block}, squares.options());
  const T* root = roots.const_data_ptr<T>();
  for (int64_t begin = 0; begin < numel; begin += block) {
    const int64_t count = std::min(block, numel - begin);
    const auto finish = [=](int64_t i) __attribute__((always_inline)) { second(begin - block + i, root[i]); };
    const auto both = [=](int64_t i) __attribute__((always_inline)) {
      finish(i);
      first(begin + i);
    };
    if (begin == 0) {
      for_each_element(first, 0, count);
    } else {
      for_each_element(both, 0, count);
      for_each_element(finish, count, block);
    }
    at::Tensor some = count == block ? roots : roots.narrow(0, 0, count);
    at::sqrt_out(some, squares.narrow(0, begin, count));
  }
  const int64_t last = (numel - 1) / block * block;
  for_each_element([=](int64_t i) __attribute__((always_inline)) { second(i, root[i - last]); }, last, numel);
}

// The pointer to an optional moment's elements.
template <class T>
T* elements(const at::Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data_ptr<T>() : nullptr;
}

// What all begin with: the gradient, negated by a factor of −1, and coupled decay. (With a decay of 0 as a factor, an infinite parameter
// would make it NaN.)
template <class T, bool decays>
struct Gradient {
  const T* gradient;
  T sign;
  T decay;
  [[gnu::always_inline]] T operator()(int64_t i, T parameter) const {
    const T signed_gradient = gradient[i] * sign;
    return decays ? madd(parameter, decay, signed_gradient) : signed_gradient;
  }
};

// Calls work(gradient) with a Gradient.
template <class T, class Work>
void with_gradient(const Stretch& at, bool maximize, double decay, Work work) {
  const T* gradient = at.gradient.const_data_ptr<T>();
  const T sign = maximize ? -1 : 1;
  if (decay != 0) work(Gradient<T, true>{gradient, sign, static_cast<T>(decay)});
  else work(Gradient<T, false>{gradient, sign, 0});
}

template <class T, class Gradient, bool amsgrad>
struct AdamMoments {
  Gradient gradient;
  const T* parameter;
  T *average, *square, *largest;
  T coefficient;
  bool from_average;  // lerp reckons from the nearer end
  T beta2, weight2;

  [[gnu::always_inline]] void operator()(int64_t i) const {
    const T g = gradient(i, parameter[i]);
    average[i] = madd(coefficient, g - average[i], from_average ? average[i] : g);
    const T v = madd(weight2 * g, g, square[i] * beta2);
    square[i] = v;
    if constexpr (amsgrad) {
      const T before = largest[i];
      largest[i] = before != before || before > v ? before : v;  // NaN stays
    }
  }
};

template <class T>
struct AdamParameter {
  T* parameter;
  const T* average;
  T factor, divisor, eps, size;

  [[gnu::always_inline]] void operator()(int64_t i, T root) const {
    parameter[i] = parameter[i] * factor + size * average[i] / (root / divisor + eps);
  }
};

template <class T>
void update_adam(const AdamStep& step, const Stretch& at) {
  const T weight1 = static_cast<T>(1 - step.beta1);
  const bool from_average = std::abs(weight1) < T(0.5);
  const bool decouples = step.decoupled && step.weight_decay != 0;
  const AdamParameter<T> parameter{.parameter = elements<T>(at.parameter),
                                   .average = elements<T>(at.moments[0]),
                                   .factor = decouples ? static_cast<T>(step.parameter_factor()) : T(1),
                                   .divisor = static_cast<T>(step.denominator_divisor()),
                                   .eps = static_cast<T>(step.eps),
                                   .size = static_cast<T>(-step.step_size())};
  const auto sweep = [&]<class G, bool amsgrad>(const G& gradient, std::bool_constant<amsgrad>) {
    const AdamMoments<T, G, amsgrad> moments{.gradient = gradient,
                                             .parameter = elements<T>(at.parameter),
                                             .average = elements<T>(at.moments[0]),
                                             .square = elements<T>(at.moments[1]),
                                             .largest = elements<T>(at.moments[2]),
                                             .coefficient = from_average ? weight1 : weight1 - 1,
                                             .from_average = from_average,
                                             .beta2 = static_cast<T>(step.beta2),
                                             .weight2 = static_cast<T>(1 - step.beta2)};
    around_roots<T>(at.moments[amsgrad ? 2 : 1], moments, parameter);
  };
  with_gradient<T>(at, step.maximize, step.decoupled ? 0.0 : step.weight_decay, [&](const auto& gradient) {
    if (step.amsgrad) sweep(gradient, std::true_type());
    else sweep(gradient, std::false_type());
  });
}

enum class Momentum : uint8_t { none, first, going };

template <class T, class Gradient, Momentum kind, bool nesterov>
struct SgdElement {
  Gradient gradient;
  T *parameter, *buffer;
  T momentum, weight, size;

  [[gnu::always_inline]] void operator()(int64_t i) const {
    const T old = parameter[i];
    T direction = gradient(i, old);
    if constexpr (kind != Momentum::none) {
      const T moving = kind == Momentum::first ? direction : madd(direction, weight, buffer[i] * momentum);
      buffer[i] = moving;
      direction = nesterov ? madd(moving, momentum, direction) : moving;
    }
    parameter[i] = madd(direction, size, old);
  }
};

template <class T>
void update_sgd(const SgdStep& step, const Stretch& at) {
  const auto sweep = [&]<class G, Momentum kind, bool nesterov>(const G& gradient) {
    for_each_element(
        SgdElement<T, G, kind, nesterov>{gradient, elements<T>(at.parameter), elements<T>(at.moments[0]), static_cast<T>(step.momentum),
                                         static_cast<T>(1 - step.dampening), static_cast<T>(-step.lr)},
        0, at.parameter.numel());
  };
  with_gradient<T>(at, step.maximize, step.weight_decay, [&]<class G>(const G& gradient) {
    if (step.momentum == 0) sweep.template operator()<G, Momentum::none, false>(gradient);
    else if (!step.begun && step.nesterov) sweep.template operator()<G, Momentum::first, true>(gradient);
    else if (!step.begun) sweep.template operator()<G, Momentum::first, false>(gradient);
    else if (step.nesterov) sweep.template operator()<G, Momentum::going, true>(gradient);
    else sweep.template operator()<G, Momentum::going, false>(gradient);
  });
}

template <class T, class Gradient>
struct AdagradSum {
  Gradient gradient;
  const T* parameter;
  T* sum;

  [[gnu::always_inline]] void operator()(int64_t i) const {
    const T g = gradient(i, parameter[i]);
    sum[i] = madd(g, g, sum[i]);
  }
};

template <class T, class Gradient>
struct AdagradParameter {
  Gradient gradient;
  T* parameter;
  T eps, size;

  [[gnu::always_inline]] void operator()(int64_t i, T root) const {
    const T old = parameter[i];
    parameter[i] = old + size * gradient(i, old) / (root + eps);
  }
};

template <class T>
void update_adagrad(const AdagradStep& step, const Stretch& at) {
  T* parameter = elements<T>(at.parameter);
  with_gradient<T>(at, step.maximize, step.weight_decay, [&]<class G>(const G& gradient) {
    around_roots<T>(at.moments[0], AdagradSum<T, G>{gradient, parameter, elements<T>(at.moments[0])},
                    AdagradParameter<T, G>{gradient, parameter, static_cast<T>(step.eps), static_cast<T>(-step.decayed_lr())});
  });
}

}  // namespace

bool goes_in_one_pass(const Stretch& at) {
  const auto type = at.parameter.scalar_type();
  return at.in_a_row && (type == at::kFloat || type == at::kDouble) && at.gradient.scalar_type() == type && at.parameter.is_cpu() &&
         aten_multiplies_and_adds_at_once();
}

void update_in_one_pass(const AdamStep& step, const Stretch& at) {
  if (at.parameter.scalar_type() == at::kFloat) update_adam<float>(step, at);
  else update_adam<double>(step, at);
}
void update_in_one_pass(const SgdStep& step, const Stretch& at) {
  if (at.parameter.scalar_type() == at::kFloat) update_sgd<float>(step, at);
  else update_sgd<double>(step, at);
}
void update_in_one_pass(const AdagradStep& step, const Stretch& at) {
  if (at.parameter.scalar_type() == at::kFloat) update_adagrad<float>(step, at);
  else update_adagrad<double>(step, at);
}

}  // namespace tessera

#else

namespace tessera {

bool goes_in_one_pass(const Stretch&) { return false; }
void update_in_one_pass(const AdamStep& step, const Stretch& at) { update_by_operations(step, at); }
void update_in_one_pass(const SgdStep& step, const Stretch& at) { update_by_operations(step, at); }
void update_in_one_pass(const AdagradStep& step, const Stretch& at) { update_by_operations(step, at); }

}  // namespace tessera

#endif
