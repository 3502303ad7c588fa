// The loops in one pass, and the fused kernels, against ATen's operations one after the other.
#include "tessera/fsdp/update.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <random>

namespace tessera {
namespace {

using Random = std::mt19937_64;

// Of any size and of every kind: zeros of both signs, subnormal, tiny, common, huge, infinite, not a number.
template <class T>
T any_value(Random& random) {
  using Limits = std::numeric_limits<T>;
  const T sign = random() % 2 ? 1 : -1;
  const T share = static_cast<T>(random() >> 11) / static_cast<T>(uint64_t{1} << 53);
  switch (random() % 16) {
    case 0: return sign * 0;
    case 1: return sign * share * Limits::min();
    case 2: return sign * std::ldexp(share, Limits::min_exponent + static_cast<int>(random() % 40));
    case 3: return sign * std::ldexp(share, Limits::max_exponent - static_cast<int>(random() % 40));
    case 4: return sign * Limits::infinity();
    case 5: return Limits::quiet_NaN();
    case 6: return sign;
    default: return sign * std::ldexp(share, static_cast<int>(random() % 24) - 16);
  }
}

// What steps meet in practice: no inf, no nan, nothing that overflows.
template <class T>
T common_value(Random& random) {
  const T share = static_cast<T>(random() >> 11) / static_cast<T>(uint64_t{1} << 53);
  return std::ldexp(share - T(0.5), static_cast<int>(random() % 24) - 16);
}

template <class T>
at::Tensor filled(Random& random, int64_t numel, T (*value)(Random&), bool positive = false) {
  at::Tensor tensor = at::empty({numel}, c10::CppTypeToScalarType<T>::value);
  for (int64_t i = 0; i < numel; ++i) {
    const T some = value(random);
    tensor.mutable_data_ptr<T>()[i] = positive ? std::fabs(some) : some;
  }
  return tensor;
}

// Squares are never negative.
template <class T>
Stretch stretch(Random& random, int64_t numel, T (*value)(Random&), bool first_is_square) {
  return {filled(random, numel, value),
          filled(random, numel, value),
          {filled(random, numel, value, first_is_square), filled(random, numel, value, true), filled(random, numel, value, true)}};
}

Stretch copy(const Stretch& of) {
  Stretch made{of.parameter.clone(), of.gradient.clone(), {}};
  for (const at::Tensor& moment : of.moments) made.moments.push_back(moment.clone());
  return made;
}

// By bits; but that something is not a number has many bits.
template <class T>
void expect_same(const at::Tensor& actual, const at::Tensor& expected, const std::string& what) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  for (int64_t i = 0; i < expected.numel(); ++i) {
    const T a = actual.const_data_ptr<T>()[i], e = expected.const_data_ptr<T>()[i];
    if (std::isnan(a) && std::isnan(e)) continue;
    ASSERT_EQ(std::bit_cast<Bits>(a), std::bit_cast<Bits>(e)) << what << " at " << i << ": " << a << " and " << e;
  }
}

template <class T>
void expect_same(const Stretch& actual, const Stretch& expected) {
  for (size_t i = 0; i < expected.moments.size(); ++i) {
    expect_same<T>(actual.moments[i], expected.moments[i], "moment " + std::to_string(i));
  }
  expect_same<T>(actual.parameter, expected.parameter, "parameter");
}

double one_of(Random& random, std::initializer_list<double> values) { return std::data(values)[random() % values.size()]; }
double share(Random& random) { return std::uniform_real_distribution(0.0, 1.0)(random); }

void pick(Random& random, AdamStep& step) {
  step = {.lr = one_of(random, {1e-3, 0.1, share(random)}),
          // Not 0: ATen's lerp all the way gives zeros of one sign in its vectors and of the other after them.
          .beta1 = one_of(random, {0.9, 0.3, 0.5, share(random)}),
          .beta2 = one_of(random, {0.999, 0.5, 0, share(random)}),
          .eps = one_of(random, {1e-8, 0, share(random)}),
          .weight_decay = one_of(random, {0, 1e-2, share(random)}),
          .amsgrad = random() % 2 == 0,
          .maximize = random() % 2 == 0,
          .decoupled = random() % 2 == 0,
          .step = static_cast<double>(1 + random() % 5000)};
}
void pick(Random& random, SgdStep& step) {
  step = {.lr = one_of(random, {1e-3, 0.1, share(random)}),
          .momentum = one_of(random, {0, 0.9, share(random)}),
          .dampening = one_of(random, {0, share(random)}),
          .weight_decay = one_of(random, {0, 1e-2, share(random)}),
          .nesterov = random() % 2 == 0,
          .maximize = random() % 2 == 0,
          .begun = random() % 3 != 0};
}
void pick(Random& random, AdagradStep& step) {
  step = {.lr = one_of(random, {1e-2, 0.1, share(random)}),
          .lr_decay = one_of(random, {0, share(random)}),
          .weight_decay = one_of(random, {0, 1e-2, share(random)}),
          .eps = one_of(random, {1e-10, 0, share(random)}),
          .maximize = random() % 2 == 0,
          .step = static_cast<double>(1 + random() % 5000)};
}

template <class Step, class T>
void compare_in_one_pass(uint64_t seed) {
  Random random(seed);
  const at::NoGradGuard no_grad;
  for (int round = 0; round < 400; ++round) {
    Step step{};
    pick(random, step);
    const auto numel = static_cast<int64_t>(1 + random() % 700);
    const bool squares = std::is_same_v<Step, AdagradStep>;
    const Stretch expected = stretch<T>(random, numel, round % 4 ? any_value<T> : common_value<T>, squares);
    const Stretch actual = copy(expected);
    update_by_operations(step, expected);
    update_in_one_pass(step, actual);
    expect_same<T>(actual, expected);
    if (::testing::Test::HasFatalFailure()) return;
  }
}

TEST(UpdateInOnePass, HasTheBitsOfTheOperations) {
  const at::Tensor one = at::empty({1});
  if (!goes_in_one_pass({one, one, {}})) GTEST_SKIP() << "ATen's loops here are those without a multiply-add";
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    compare_in_one_pass<AdamStep, float>(seed);
    compare_in_one_pass<AdamStep, double>(seed);
    compare_in_one_pass<SgdStep, float>(seed);
    compare_in_one_pass<SgdStep, double>(seed);
    compare_in_one_pass<AdagradStep, float>(seed);
    compare_in_one_pass<AdagradStep, double>(seed);
    if (HasFatalFailure()) return;
  }
}

TEST(Update, InBlocksOnSeveralThreadsIsTheSame) {
  Random random(7);
  const int64_t numel = (int64_t{1} << 20) + 12345;
  const Stretch expected = stretch<float>(random, numel, common_value<float>, false);
  const Stretch actual = copy(expected);
  AdamStep step{};
  pick(random, step);
  update(step, actual, false);
  const at::NoGradGuard no_grad;
  update_by_operations(step, expected);
  expect_same<float>(actual, expected);
}

template <class Step>
void compare_fused(uint64_t seed) {
  Random random(seed);
  const at::NoGradGuard no_grad;
  for (int round = 0; round < 50; ++round) {
    Step step{};
    pick(random, step);
    if constexpr (requires { step.eps; }) step.eps = 1e-3;  // nothing is divided by what is nearly nothing
    const bool squares = std::is_same_v<Step, AdagradStep>;
    const Stretch expected = stretch<double>(random, 333, common_value<double>, squares);
    const Stretch actual = copy(expected);
    update_by_operations(step, expected);
    update(step, actual, true);
    ASSERT_TRUE(at::allclose(actual.parameter, expected.parameter, 1e-9, 1e-12)) << "round " << round;
    for (size_t i = 0; i < 3; ++i) ASSERT_TRUE(at::allclose(actual.moments[i], expected.moments[i], 1e-9, 1e-12)) << i;
  }
}

TEST(UpdateFused, IsTheSameWithinRounding) {
  compare_fused<AdamStep>(1);
  compare_fused<SgdStep>(2);
  compare_fused<AdagradStep>(3);
}

}  // namespace
}  // namespace tessera
