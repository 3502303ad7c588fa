// Tensors inside what forward takes and gives: cast as those that stand alone, and run through again as those.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/dropout.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string_view>

#include "tessera/fsdp/recompute.h"
#include "tessera/fsdp/test_model.h"

namespace users {

// A type of a user's, with tensors in it.
struct Batch {
  at::Tensor tokens;
  std::vector<at::Tensor> masks;
  std::string about;
};
void visit_tensors(const Batch& batch, auto& visit) {
  visit(batch.tokens);
  tessera::visit_tensors(batch.masks, visit);
}
// One that cannot be copied.
struct Moved {
  at::Tensor tensor;
  std::unique_ptr<int> rest = nullptr;
};
void visit_tensors(const Moved& moved, auto& visit) { visit(moved.tensor); }
// One in which nobody sees tensors.
struct Opaque {
  at::Tensor tensor;
};
// One that gives a tensor of somebody else's.
struct Convertible {
  operator at::Tensor() const { return *tensor; }
  const at::Tensor* tensor;
};

}  // namespace users

namespace tessera::testing {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Map = std::map<std::string, at::Tensor>;
using Hashed = std::unordered_map<std::string, std::vector<std::pair<at::Tensor, int>>>;

at::Tensor wide(double value = 1, bool requires_grad = false) { return at::full({2, 3}, value).set_requires_grad(requires_grad); }
at::Tensor narrow(double value = 1) { return at::full({2, 3}, value, at::kBFloat16); }
at::Tensor whole_number() { return at::full({2, 3}, 2, at::kLong); }

template <class T>
std::vector<at::Tensor> tensors_in(const T& value) {
  std::vector<at::Tensor> found;
  auto visit = [&](const at::Tensor& tensor) { found.push_back(tensor); };
  if constexpr (std::is_same_v<T, users::Opaque>) visit(value.tensor);
  else visit_tensors(value, visit);
  return found;
}

// Adds up whatever it is given, times its weight, and remembers what that was.
struct SumImpl : torch::nn::Module {
  SumImpl() { weight = register_parameter("weight", at::full({3}, 1.5)); }
  template <class T>
  at::Tensor forward(const T& given) {
    address = &given;
    dtypes.clear();
    at::Tensor sum = weight * weight;
    for (const at::Tensor& tensor : tensors_in(given)) {
      dtypes.push_back(tensor.defined() ? tensor.scalar_type() : at::kByte);
      if (tensor.defined()) sum = sum * (tensor + weight);
    }
    if (train_dropout) sum = at::dropout(sum, 0.5, /*train=*/true);
    return sum;
  }
  bool train_dropout = false;
  at::Tensor weight;
  const void* address = nullptr;
  std::vector<at::ScalarType> dtypes;
};
TORCH_MODULE(Sum);

const FsdpOptions in_bfloat16{.seed = 1, .mixed_precision = {.param_dtype = at::kBFloat16}};

void with_sum(const std::function<void(Wrapped<SumImpl>&)>& body, const FsdpOptions& options = in_bfloat16) {
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Sum(); }, options);
    body(model);
  });
}

// What forward saw of `given`, of which the caller keeps every tensor as it was.
template <class T>
void expect_cast(T given, size_t count) {
  with_sum([&](Wrapped<SumImpl>& model) {
    const auto before = tensors_in(given);
    ASSERT_EQ(before.size(), count);
    model(given).sum().backward();
    EXPECT_THAT(model.module().dtypes, Each(at::kBFloat16));
    EXPECT_EQ(model.module().dtypes.size(), count);
    EXPECT_NE(model.module().address, &given);
    model(T(given));
    EXPECT_THAT(model.module().dtypes, Each(at::kBFloat16)) << "an rvalue";
    const auto after = tensors_in(given);
    for (size_t i = 0; i < count; ++i) EXPECT_TRUE(after[i].is_same(before[i]));
  });
}

TEST(ContainersInForward, AreCastAsCopies) {
  expect_cast(wide(), 1);
  expect_cast(std::vector{wide(), wide()}, 2);
  expect_cast(std::array{wide(), wide()}, 2);
  expect_cast(std::pair{wide(), 3}, 1);
  expect_cast(std::tuple{wide(), std::string("x"), wide()}, 2);
  expect_cast(std::optional{wide()}, 1);
  expect_cast(Map{{"a", wide()}, {"b", narrow()}}, 2);
  expect_cast(Hashed{{"a", {{wide(), 1}, {wide(), 2}}}, {"b", {}}, {"c", {{wide(), 3}}}}, 3);
  expect_cast(std::vector{std::optional{std::tuple{wide(), Map{{"x", wide()}}}}}, 2);
  expect_cast(users::Batch{wide(), {wide()}, "x"}, 2);
  expect_cast(std::vector{users::Batch{wide(), {}, ""}}, 1);
}

TEST(ContainersInForward, KeepWhatIsNoFloatOrNotThere) {
  with_sum([](Wrapped<SumImpl>& model) {
    model(std::vector{whole_number(), at::Tensor(), wide()});
    EXPECT_THAT(model.module().dtypes, ElementsAre(at::kLong, at::kByte, at::kBFloat16));
    model(std::optional<at::Tensor>());
    EXPECT_THAT(model.module().dtypes, ElementsAre());
  });
}

TEST(ContainersInForward, AreTheCallersOwnWhereNothingIsToBeCast) {
  const std::vector right{narrow(), whole_number()}, wrong{wide()};
  with_sum([&](Wrapped<SumImpl>& model) {
    model(right);
    EXPECT_EQ(model.module().address, &right);
  });
  FsdpOptions in_eval = in_bfloat16;
  in_eval.mixed_precision.full_in_eval = true;
  FsdpOptions unasked = in_bfloat16;
  unasked.mixed_precision.cast_inputs = false;
  for (const FsdpOptions& options : {in_eval, unasked, FsdpOptions{.seed = 1}}) {
    with_sum(
        [&](Wrapped<SumImpl>& model) {
          model->eval();
          model(wrong);
          EXPECT_EQ(model.module().address, &wrong);
        },
        options);
  }
  auto transparent = wrap(Sum());
  transparent(wrong);
  EXPECT_EQ(transparent.module().address, &wrong);
}

TEST(ContainersInForward, GetTheGradientsOfTensorsThatStandAlone) {
  with_sum([](Wrapped<SumImpl>& model) {
    const at::Tensor alone = wide(0.3, true), inside = wide(0.3, true);
    model(alone).sum().backward();
    model(Map{{"x", inside}}).sum().backward();
    EXPECT_EQ(inside.grad().scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(inside.grad(), alone.grad()));
  });
}

TEST(ContainersInForward, MayHoldDevicesAndNothing) {
  expect_cast(std::pair{wide(), at::Device(at::kCPU)}, 1);
  expect_cast(std::tuple{std::nullopt, wide()}, 1);
  with_sum([](Wrapped<SumImpl>& model) { EXPECT_NO_THROW(model(std::nullopt)); });
}

TEST(ContainersInForward, ThatCannotBeCopiedAreCastWhenGivenAway) {
  with_sum([](Wrapped<SumImpl>& model) {
    const users::Moved kept{wide()};
    model(kept);
    EXPECT_EQ(model.module().address, &kept);
    EXPECT_THAT(model.module().dtypes, ElementsAre(at::kFloat));
    model(users::Moved{wide()});
    EXPECT_THAT(model.module().dtypes, ElementsAre(at::kBFloat16));
    std::vector<users::Moved> many;
    many.push_back({wide()});
    model(many);
    EXPECT_EQ(model.module().address, &many);
    EXPECT_THAT(model.module().dtypes, ElementsAre(at::kFloat));
    model(std::move(many));
    EXPECT_THAT(model.module().dtypes, ElementsAre(at::kBFloat16));
  });
}

// Takes whatever it is told to, and remembers where that was.
struct TakeImpl : torch::nn::Module {
  TakeImpl() { weight = register_parameter("weight", at::ones({3})); }
  template <class T>
  at::Tensor forward(const T& given) {
    address = &given;
    return weight * 2;
  }
  const void* address = nullptr;
  at::Tensor weight;
};
TORCH_MODULE(Take);

TEST(ContainersInForward, ThatOnlyReferToTensorsOrHideSomeAreLeftAlone) {
  static_assert(!has_tensors_to_visit<users::Convertible> && !has_tensors_to_visit<std::reference_wrapper<at::Tensor>>);
  at::Tensor a = wide(), b = wide();
  const at::Tensor before = a;
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Take(); }, in_bfloat16);
    const auto expect_left_alone = [&](const auto& given) {
      model(given);
      EXPECT_EQ(model.module().address, &given);
    };
    expect_left_alone(std::array{std::ref(a), std::ref(b)});
    expect_left_alone(std::map<int, std::reference_wrapper<at::Tensor>>{{1, a}});
    expect_left_alone(std::unordered_map<int, std::reference_wrapper<at::Tensor>>{{1, a}});
    expect_left_alone(std::array{users::Convertible{&a}});
    expect_left_alone(std::pair{a, std::make_shared<int>(1)});
  });
  EXPECT_TRUE(a.is_same(before));
  EXPECT_EQ(a.scalar_type(), at::kFloat);
}

TEST(ContainersInForward, OfConstTensorsAreLeftAlone) {
  with_sum([](Wrapped<SumImpl>& model) {
    const auto expect_left_alone = [&](auto given) {
      model(given);
      EXPECT_EQ(model.module().address, &given);
      EXPECT_THAT(model.module().dtypes, Each(at::kFloat));
    };
    expect_left_alone(std::tuple<const at::Tensor, int>{wide(), 1});
    expect_left_alone(std::vector{std::pair<int, const at::Tensor>{1, wide()}});
    expect_left_alone(std::map<int, const at::Tensor>{{1, wide()}});
  });
  expect_cast(std::pair<const int, at::Tensor>{1, wide()}, 1);
}

// One signature, as most modules have.
struct StepImpl : torch::nn::Module {
  StepImpl() { weight = register_parameter("weight", at::full({3}, 1.5)); }
  at::Tensor forward(const at::Tensor& x, std::vector<at::Tensor>& cache, std::vector<at::Tensor> others, at::TensorList list = {},
                     at::IntArrayRef sizes = {}) {
    at::Tensor sum = x * weight;
    dtypes = {x.scalar_type()};
    for (const auto& tensors : {others, cache, list.vec()}) {
      for (const at::Tensor& tensor : tensors) {
        dtypes.push_back(tensor.scalar_type());
        sum = sum + tensor;
      }
    }
    cache.push_back(sum);
    others.clear();  // its own
    return sizes.empty() ? sum : sum.reshape(sizes);
  }
  at::Tensor weight;
  std::vector<at::ScalarType> dtypes;
};
TORCH_MODULE(Step);

TEST(ContainersInForward, ThatForwardFillsAreTheCallersOwn) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Step(); }, in_bfloat16);
    std::vector<at::Tensor> cache{wide()}, others{wide()};
    model(wide(), cache, others);
    ASSERT_EQ(cache.size(), 2u);
    EXPECT_EQ(cache[0].scalar_type(), at::kFloat);
    EXPECT_EQ(others.size(), 1u);
    EXPECT_THAT(model.module().dtypes, ElementsAre(at::kBFloat16, at::kBFloat16, at::kFloat));
    model->forward(wide(), cache, {wide()}, {wide(), wide()}, {3, 2});
    EXPECT_EQ(cache.size(), 3u);
    EXPECT_THAT(model.module().dtypes, ElementsAre(at::kBFloat16, at::kBFloat16, at::kFloat, at::kFloat, at::kBFloat16, at::kBFloat16));
  });
}

struct FillImpl : torch::nn::Module {
  FillImpl() { weight = register_parameter("weight", at::ones({3})); }
  void forward(auto& cache) { cache["x"] = weight * 2; }
  at::Tensor weight;
};
TORCH_MODULE(Fill);

TEST(ContainersInForward, ThatTemplatesFillAreTheCallersOwnToo) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Fill(); }, in_bfloat16);
    Map cache{{"y", wide()}};
    model(cache);
    EXPECT_EQ(cache.at("x").scalar_type(), at::kBFloat16);
    EXPECT_EQ(cache.at("y").scalar_type(), at::kFloat);
  });
}

struct FillAnyImpl : torch::nn::Module {
  FillAnyImpl() { weight = register_parameter("weight", at::ones({3})); }
  template <class T>
  void forward(T&& cache) {
    cache["x"] = weight * 2;
  }
  at::Tensor weight;
};
TORCH_MODULE(FillAny);

// As unit_argument.h says: such a template cannot be told from one that only reads.
TEST(ContainersInForward, ThatForwardingReferencesFillAreCopiesWhereSomethingIsCast) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return FillAny(); }, in_bfloat16);
    Map right{{"y", narrow()}}, wrong{{"y", wide()}};
    model(right);
    EXPECT_EQ(right.size(), 2u);
    model(wrong);
    EXPECT_EQ(wrong.size(), 1u);
  });
}

// auto: to ask whether it takes something is to compile it for that.
struct GuessImpl : torch::nn::Module {
  GuessImpl() { weight = register_parameter("weight", at::ones({3})); }
  template <class T>
  auto forward(T&& x) {
    static_assert(std::is_lvalue_reference_v<T>);
    return weight * x;
  }
  at::Tensor weight;
};
TORCH_MODULE(Guess);

TEST(ContainersInForward, AreNotLookedForInTensorsAndNumbers) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return Guess(); }, in_bfloat16);
    at::Tensor x = wide();
    double factor = 2;
    EXPECT_EQ(model(x).scalar_type(), at::kBFloat16);
    EXPECT_EQ(model(factor).scalar_type(), at::kBFloat16);
  });
}

TEST(ContainersInForward, OfReferencesAreLeftAlone) {
  with_sum([](Wrapped<SumImpl>& model) {
    at::Tensor a = wide(), b = wide();
    model(std::tie(a, b));
    EXPECT_EQ(a.scalar_type(), at::kFloat);
    EXPECT_THAT(model.module().dtypes, Each(at::kFloat));
  });
}

struct GiveImpl : torch::nn::Module {
  GiveImpl() { weight = register_parameter("weight", at::ones({3})); }
  std::tuple<Map, users::Batch, Hashed> forward(const at::Tensor& x) {
    const at::Tensor y = x * weight;
    return {Map{{"y", y}, {"n", whole_number()}}, users::Batch{y, {y * 2}, "made"}, Hashed{{"z", {{y, 1}}}}};
  }
  at::Tensor weight;
};
TORCH_MODULE(Give);

TEST(ContainersFromForward, AreCastAndTakePartInBackward) {
  FsdpOptions options = in_bfloat16;
  options.mixed_precision.output_dtype = at::kDouble;
  run_ranks(2, [&](Job& job) {
    auto model = fsdp(job, [] { return Give(); }, options);
    for (int step = 0; step < 2; ++step) {
      const auto [map, batch, hashed] = model(wide());
      EXPECT_EQ(map.at("y").scalar_type(), at::kDouble);
      EXPECT_EQ(map.at("n").scalar_type(), at::kLong);
      EXPECT_EQ(batch.tokens.scalar_type(), at::kDouble);
      EXPECT_EQ(batch.masks.front().scalar_type(), at::kDouble);
      EXPECT_EQ(batch.about, "made");
      EXPECT_EQ(hashed.at("z").front().first.scalar_type(), at::kDouble);
      const bool last = step == 1;
      (last ? hashed.at("z").front().first : batch.masks.front() + map.at("y")).sum().backward();
    }
    EXPECT_TRUE(at::equal(gradients_of(model).at("weight"), at::full({3}, 2.0f * 3 + 2)));
  });
}

// Weights that are freed after forward, and are used in backward: those of a unit below the root.
struct ScaleImpl : torch::nn::Module {
  ScaleImpl() { weight = register_parameter("weight", at::full({3}, 3.0)); }
  at::Tensor forward(const at::Tensor& x, std::vector<at::Tensor>& made) {
    made[0].mul_(weight);
    made.push_back(x * weight);
    return x.sum() * 0;
  }
  void forward(const at::Tensor& x, Map& made) { made["y"] = x * weight; }
  void forward(const at::Tensor& x, const std::tuple<at::Tensor&>& made) { std::get<0>(made) = x * weight; }
  at::Tensor weight;
};
TORCH_MODULE(Scale);
struct OutsideImpl : torch::nn::Module {
  OutsideImpl() {
    scale = register_module("scale", wrap(Scale()));
    other = register_module("other", wrap(Block(3)));
  }
  at::Tensor forward(const at::Tensor& x, int how) {
    if (how == 0) {
      std::vector<at::Tensor> made{x * 1};
      at::Tensor rest = scale(x, made);
      rest = rest + other(x).sum() * 0;
      return made[0].sum() + made[1].sum() + rest;
    }
    if (how == 1) {
      Map made;
      scale(x, made);
      return made.at("y").sum() + other(x).sum() * 0;
    }
    at::Tensor y;
    scale(x, std::tie(y));
    return y.sum() + other(x).sum() * 0;
  }
  Wrapped<ScaleImpl> scale = nullptr;
  Wrapped<BlockImpl> other = nullptr;
};
TORCH_MODULE(Outside);

TEST(ContainersThatForwardFills, TakePartInBackward) {
  for (const int how : {0, 1, 2}) {
    run_ranks(2, [&](Job& job) {
      auto model = fsdp(job, [] { return Outside(); }, {.seed = 1});
      const at::Tensor x = wide(0.5, true);
      model(x, how).backward();
      const float passes = how == 0 ? 2 : 1;
      EXPECT_TRUE(at::equal(x.grad(), at::full({2, 3}, 3 * passes)));
      EXPECT_TRUE(at::equal(gradients_of(model).at("scale.weight"), at::full({3}, passes)));
    });
  }
}

// A result that can be moved only.
struct Result {
  explicit Result(at::Tensor tensor) : tensor(std::move(tensor)) {}
  Result(Result&&) = default;
  at::Tensor tensor;
};
void visit_tensors(const Result& result, auto& visit) { visit(result.tensor); }
struct GiveAwayImpl : torch::nn::Module {
  GiveAwayImpl() { weight = register_parameter("weight", at::ones({3})); }
  Result forward(const at::Tensor& x) { return Result(x * weight); }
  at::Tensor weight;
};
TORCH_MODULE(GiveAway);

TEST(ContainersFromForward, AreNotCopied) {
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return GiveAway(); }, in_bfloat16);
    EXPECT_EQ(model(wide()).tensor.scalar_type(), at::kBFloat16);
  });
}

// A root around one Sum, which is a unit that may run again.
struct AroundImpl : torch::nn::Module {
  AroundImpl() { inner = register_module("inner", wrap(Sum())); }
  template <class T>
  at::Tensor forward(T&& given) {
    return inner(std::forward<T>(given));
  }
  Wrapped<SumImpl> inner = nullptr;
};
TORCH_MODULE(Around);

// `make(leaf)` puts a tensor into a container.
void expect_same_gradients_again(const auto& make) {
  for (const bool mixed : {false, true}) {
    std::vector<at::Tensor> of_leaf;
    std::vector<Values> of_model;
    for (const bool recompute : {false, true}) {
      run_ranks(1, [&](Job& job) {
        FsdpOptions options{.seed = 1, .recompute = recompute};
        if (mixed) options.mixed_precision = in_bfloat16.mixed_precision;
        auto model = fsdp(job, [] { return Around(); }, options);
        model.module().inner.module().train_dropout = true;
        at::Generator generator = at::detail::getDefaultCPUGenerator();
        generator.set_current_seed(7);
        const at::Tensor leaf = wide(0.3, true);
        model(make(leaf * 2)).sum().backward();
        of_leaf.push_back(leaf.grad());
        of_model.push_back(gradients_of(model));
      });
    }
    EXPECT_GT(of_leaf[0].abs().sum().item<float>(), 0);
    EXPECT_TRUE(at::equal(of_leaf[0], of_leaf[1]));
    EXPECT_TRUE(identical(of_model[0], of_model[1]));
  }
}

TEST(ContainersThatRunAgain, GiveTheSameGradients) {
  expect_same_gradients_again([](const at::Tensor& x) { return std::vector{x, x, x * 2}; });
  expect_same_gradients_again([](const at::Tensor& x) { return std::optional{x}; });
  expect_same_gradients_again([](const at::Tensor& x) { return std::tuple{x, 3, Map{{"a", x.sin()}, {"b", at::Tensor()}}}; });
  expect_same_gradients_again([](const at::Tensor& x) { return users::Batch{x, {x + 1, whole_number()}, ""}; });
  expect_same_gradients_again([](const at::Tensor& x) {
    Hashed many;
    for (int i = 0; i < 40; ++i) many["k" + std::to_string(i)] = {{x * (1.0 / (40 + i)), i}};
    return many;
  });
}

TEST(ContainersThatRunAgain, AreKeptAsAutogradKeepsTensors) {
  const std::vector given{wide()};
  const at::Tensor weight = wide(2, true);
  const at::Tensor y = recompute([&](const std::vector<at::Tensor>& x) { return x[0] * weight; }, given);
  given[0].add_(1);
  EXPECT_THAT([&] { y.sum().backward(); }, ::testing::ThrowsMessage<std::exception>(HasSubstr("modified by an inplace operation")));
}

Error refusal(const std::function<void()>& work) {
  const auto outcome = capture(work);
  return Error(outcome.fault);
}

template <class... A>
constexpr bool can_keep_all = (can_keep<A> && ...);
template <class... A>
constexpr bool can_keep_any = (can_keep<A> || ...);

TEST(ContainersThatRunAgain, AreOfValuesThatLast) {
  static_assert(can_keep_all<int, double, bool, at::ScalarType, std::string, at::Scalar, at::Device, std::nullopt_t>);
  static_assert(can_keep_all<std::optional<at::Device>, std::vector<int64_t>, std::vector<bool>, std::map<std::string, std::vector<int>>>);
  static_assert(can_keep_all<at::Tensor, Map, Hashed, users::Batch, std::pair<const int, at::Tensor>>);
  static_assert(
      !can_keep_any<std::vector<at::Tensor>*, const at::Tensor*, const char*, std::string_view, std::initializer_list<at::Tensor>>);
  static_assert(!can_keep_any<at::IntArrayRef, at::OptionalIntArrayRef, std::optional<at::IntArrayRef>, std::span<at::Tensor>>);
  static_assert(!can_keep_any<std::map<std::string_view, at::Tensor>, std::unordered_map<int*, int>, std::vector<std::string_view>>);
  static_assert(!can_keep_any<std::tuple<const at::Tensor, int>, std::map<int, const at::Tensor>, std::tuple<at::Tensor&>>);
  static_assert(!can_keep_any<std::array<std::reference_wrapper<at::Tensor>, 2>, users::Convertible, users::Moved, users::Opaque>);
  static_assert(!can_keep_any<std::vector<users::Moved>, std::pair<at::Tensor, std::shared_ptr<int>>>);
  int captured = 0;
  const auto closure = [&captured] { return captured; };
  static_assert(!can_keep<decltype(closure)>);
  run_ranks(1, [](Job& job) {
    struct PointsImpl : torch::nn::Module {
      PointsImpl() { weight = register_parameter("weight", at::ones({3})); }
      at::Tensor forward(std::vector<at::Tensor>* made) { return made->emplace_back(weight * 2); }
      at::Tensor weight;
    };
    struct RootImpl : torch::nn::Module {
      RootImpl() { points = register_module("points", wrap(std::make_shared<PointsImpl>())); }
      at::Tensor forward(std::vector<at::Tensor>* made) { return points(made); }
      Wrapped<PointsImpl> points = nullptr;
    };
    auto model = fsdp(job, [] { return std::make_shared<RootImpl>(); }, {.seed = 1, .recompute = true});
    std::vector<at::Tensor> made;
    EXPECT_EQ(refusal([&] { model(&made); }).code(), Code::unsupported);
    EXPECT_TRUE(made.empty());
  });
}

TEST(ContainersThatRunAgain, MustNotBeFilled) {
  std::vector<at::Tensor> cache;
  const auto into_container = refusal([&] {
    recompute(
        [](const at::Tensor& x, std::vector<at::Tensor>& cache) {
          cache.push_back(x);
          return x * 2;
        },
        wide(), cache);
  });
  EXPECT_EQ(into_container.code(), Code::invalid_argument);
  EXPECT_THAT(into_container.what(), HasSubstr("put other tensors into its argument"));
  at::Tensor out;
  const auto into_tensor = refusal([&] { recompute([](const at::Tensor& x, at::Tensor& out) { return out = x * 2; }, wide(), out); });
  EXPECT_EQ(into_tensor.code(), Code::invalid_argument);
  // What a forward does to an argument of its own is nobody's business.
  EXPECT_NO_THROW(recompute([](at::Tensor x, std::vector<at::Tensor> list) { return x = x * 2 + std::exchange(list, {})[0]; }, wide(),
                            std::vector{wide()}));
}

TEST(ContainersThatRunAgain, AreRefusedWhereTheirTensorsCannotBeSeenOrAreNotTheirs) {
  run_ranks(1, [](Job& job) {
    auto model = fsdp(job, [] { return Around(); }, {.seed = 1, .recompute = true});
    const auto unseen = refusal([&] { model(users::Opaque{wide()}); });
    EXPECT_EQ(unseen.code(), Code::unsupported);
    EXPECT_THAT(unseen.what(), HasSubstr("visit_tensors.h"));
    at::Tensor a = wide(), b = wide();
    EXPECT_EQ(refusal([&] { model(std::tie(a, b)); }).code(), Code::unsupported);
  });
  struct ListsImpl : torch::nn::Module {
    ListsImpl() { weight = register_parameter("weight", at::ones({3})); }
    at::Tensor forward(at::TensorList list, at::IntArrayRef sizes) { return (list[0] * weight).reshape(sizes); }
    at::Tensor weight;
  };
  struct RootImpl : torch::nn::Module {
    RootImpl() { lists = register_module("lists", wrap(std::make_shared<ListsImpl>())); }
    at::Tensor forward(const at::Tensor& x) { return lists->forward({x}, {3, 2}); }  // gone before backward
    Wrapped<ListsImpl> lists = nullptr;
  };
  run_ranks(2, [](Job& job) {
    auto model = fsdp(job, [] { return std::make_shared<RootImpl>(); }, {.seed = 1, .recompute = true});
    const at::Tensor x = wide(0.5, true);
    model(x).sum().backward();
    EXPECT_TRUE(at::equal(x.grad(), at::ones({2, 3})));
    EXPECT_TRUE(at::equal(gradients_of(model).at("lists.weight"), at::ones({3})));
  });
}

}  // namespace
}  // namespace tessera::testing
