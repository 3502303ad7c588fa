#include "tessera/layout/value.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <bit>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <limits>

namespace tessera {
namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

TEST(Value, FloatsCompareByBitsAtAnyDepth) {
  const double other_nan = std::bit_cast<double>(std::bit_cast<uint64_t>(nan) ^ 1);
  const auto wrapped = [](double v) { return Value(Value::Mapping{{{Value("k"), Value::list({Value::tuple({v})})}}}); };
  for (const auto& wrap : {std::function<Value(double)>([](double v) { return Value(v); }), std::function<Value(double)>(wrapped),
                           std::function<Value(double)>([](double v) { return Value(Value::Complex{1, v}); })}) {
    EXPECT_EQ(wrap(nan), wrap(nan));
    EXPECT_EQ(wrap(0.5), wrap(0.5));
    EXPECT_FALSE(wrap(nan) == wrap(other_nan));
    EXPECT_FALSE(wrap(0.0) == wrap(-0.0));
  }
}

TEST(Value, ValuesOfDifferentTypesDifferEvenWherePythonSaysTheyAreEqual) {
  const std::vector<Value> values = {Value(),
                                     Value(true),
                                     Value(1),
                                     Value(1.0),
                                     Value("1"),
                                     Value::BigInt{"1"},
                                     Value::Complex{1, 0},
                                     Value::list({1}),
                                     Value::tuple({1}),
                                     Value::Sequence{{1}, Value::SequenceKind::set},
                                     Value::Sequence{{1}, Value::SequenceKind::frozenset},
                                     Value::Mapping{},
                                     Value::Mapping{.items = {}, .ordered = true},
                                     Value::bytes({}),
                                     Value::ByteString{{}, Value::BytesKind::bytearray},
                                     Value::TorchSize{{1}},
                                     Value::TorchDType{"float32"},
                                     Value::TorchDevice{"cpu"},
                                     Value::Tensor{DType::int8, {}, {std::byte{1}}},
                                     Value::Opaque{"a b", {}}};
  for (size_t i = 0; i < values.size(); ++i) {
    for (size_t j = 0; j < values.size(); ++j) EXPECT_EQ(values[i] == values[j], i == j) << i << " " << j;
  }
}

TEST(Value, AMappingKeepsTheOrderOfItsKeys) {
  const auto pair = [](int k) { return std::pair<Value, Value>(k, k); };
  EXPECT_FALSE(Value(Value::Mapping{{pair(1), pair(2)}}) == Value(Value::Mapping{{pair(2), pair(1)}}));
}

TEST(ToStringOfValue, IsWhatPythonShowsOrShort) {
  EXPECT_EQ(to_string(Value()), "None");
  EXPECT_EQ(to_string(Value(true)), "True");
  EXPECT_EQ(to_string(Value(false)), "False");
  EXPECT_EQ(to_string(Value(-5)), "-5");
  EXPECT_EQ(to_string(Value(Value::BigInt{"123456789012345678901"})), "123456789012345678901");
  EXPECT_EQ(to_string(Value("text")), "'text'");
  EXPECT_EQ(to_string(Value::list({1, 2.5, 3.0})), "[1, 2.5, 3.0]");
  EXPECT_EQ(to_string(Value::tuple({1})), "(1,)");
  EXPECT_EQ(to_string(Value::tuple({0.9, 0.999})), "(0.9, 0.999)");
  EXPECT_EQ(to_string(Value(Value::Sequence{{1, 2}, Value::SequenceKind::set})), "{1, 2}");
  EXPECT_EQ(to_string(Value(Value::Sequence{{1}, Value::SequenceKind::frozenset})), "frozenset({1})");
  EXPECT_EQ(to_string(Value(Value::Mapping{{{Value("lr"), Value(3e-4)}, {Value(1), Value()}}})), "{'lr': 0.0003, 1: None}");
  EXPECT_EQ(to_string(Value::bytes(std::vector<std::byte>(16))), "bytes (16)");
  EXPECT_EQ(to_string(Value(Value::Complex{1, -2.5})), "1-2.5j");
  EXPECT_EQ(to_string(Value(Value::Complex{1, 2})), "1+2j");
  EXPECT_EQ(to_string(Value(Value::TorchDType{"float32"})), "torch.float32");
  EXPECT_EQ(to_string(Value(Value::TorchSize{{2, 3}})), "torch.Size([2, 3])");
  EXPECT_EQ(to_string(Value(Value::TorchDevice{"cuda:0"})), "device('cuda:0')");
  EXPECT_EQ(to_string(Value(Value::Tensor{DType::int8, {2}, {}})), "tensor int8 [2]");
  EXPECT_EQ(to_string(Value(Value::Opaque{"numpy.core x", {}})), "opaque <numpy.core x>");
}

TEST(ToStringOfValue, AFloatIsWrittenAsPythonWritesIt) {
  for (const auto& [value, text] : {std::pair<double, const char*>(1, "1.0"),
                                    {0.0, "0.0"},
                                    {-0.0, "-0.0"},
                                    {100, "100.0"},
                                    {0.1, "0.1"},
                                    {1e15, "1000000000000000.0"},
                                    {1e16, "1e+16"},
                                    {0.0001, "0.0001"},
                                    {0.00001, "1e-05"},
                                    {1.5e300, "1.5e+300"},
                                    {nan, "nan"},
                                    {-nan, "nan"},
                                    {INFINITY, "inf"},
                                    {-INFINITY, "-inf"},
                                    {5e-324, "5e-324"},
                                    {1.7976931348623157e308, "1.7976931348623157e+308"},
                                    {0.1 + 0.2, "0.30000000000000004"}}) {
    EXPECT_EQ(to_string(Value(value)), text);
  }
}

RC_GTEST_PROP(ToStringOfValue, AnyFloatReadsBackFromItsText, (uint64_t bits)) {
  const auto value = std::bit_cast<double>(bits);
  RC_PRE(!std::isnan(value));
  const std::string text = to_string(Value(value));
  RC_ASSERT(std::bit_cast<uint64_t>(std::strtod(text.c_str(), nullptr)) == bits);
}

}  // namespace
}  // namespace tessera
