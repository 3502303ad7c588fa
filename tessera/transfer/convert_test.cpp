#include "tessera/transfer/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

namespace tessera {
namespace {

template <class To, class From>
To converted(DType from, From value, DType to) {
  To result{};
  convert(dense_view(reinterpret_cast<std::byte*>(&value), from, {1}), dense_view(reinterpret_cast<std::byte*>(&result), to, {1}));
  return result;
}

// The reference: a float's bits rounded to nearest even by integer arithmetic.
uint16_t bfloat16_of(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

TEST(Convert, EveryBFloat16SurvivesTheWayThroughFloat32AndBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto narrow = static_cast<uint16_t>(bits);
    const float wide = converted<float>(DType::bfloat16, narrow, DType::float32);
    if (std::isnan(wide)) continue;
    EXPECT_EQ(std::bit_cast<uint32_t>(wide), bits << 16);
    EXPECT_EQ(converted<uint16_t>(DType::float32, wide, DType::bfloat16), narrow);
  }
}

TEST(Convert, EveryFloat16SurvivesTheWayThroughFloat64AndBack) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto narrow = static_cast<uint16_t>(bits);
    const double wide = converted<double>(DType::float16, narrow, DType::float64);
    if (std::isnan(wide)) continue;
    EXPECT_EQ(converted<uint16_t>(DType::float64, wide, DType::float16), narrow) << bits;
  }
}

TEST(Convert, RoundsToNearestEvenAndOverflowsToInfinity) {
  for (const float value : {1.0f, 1.00390625f, 1.01171875f, 1.0039063f, 3.3895314e38f, 3.4e38f, 1e-40f, -2.5f, 0.1f}) {
    EXPECT_EQ(converted<uint16_t>(DType::float32, value, DType::bfloat16), bfloat16_of(value)) << value;
  }
  EXPECT_EQ(converted<uint16_t>(DType::float32, 65504.0f, DType::float16), 0x7bff);
  EXPECT_EQ(converted<uint16_t>(DType::float32, 65519.0f, DType::float16), 0x7bff);
  EXPECT_EQ(converted<uint16_t>(DType::float32, 65520.0f, DType::float16), 0x7c00);
  EXPECT_EQ(converted<uint16_t>(DType::float32, 5.9604645e-8f, DType::float16), 0x0001);
  EXPECT_EQ(converted<uint16_t>(DType::float32, 2.0e-8f, DType::float16), 0x0000);
  EXPECT_EQ(converted<uint16_t>(DType::float32, -0.0f, DType::float16), 0x8000);
  EXPECT_TRUE(
      std::isnan(converted<float>(DType::float16, converted<uint16_t>(DType::float32, std::nanf(""), DType::float16), DType::float32)));
}

TEST(Convert, IntegersKeepTheirValue) {
  EXPECT_EQ(converted<int64_t>(DType::int8, int8_t{-5}, DType::int64), -5);
  EXPECT_EQ(converted<int32_t>(DType::uint8, uint8_t{250}, DType::int32), 250);
  EXPECT_EQ(converted<float>(DType::int64, int64_t{16777217}, DType::float32), 16777216.0f);
  EXPECT_EQ(converted<double>(DType::uint64, ~uint64_t{0}, DType::float64), 18446744073709551616.0);
  EXPECT_EQ(converted<float>(DType::boolean, uint8_t{1}, DType::float32), 1.0f);
}

TEST(Convert, BytesAndSignsOfHalvesOfComplexNumbers) {
  float pair[2] = {1.5f, -2.0f};
  const View view = dense_view(reinterpret_cast<std::byte*>(pair), DType::complex64, {1});
  conjugate(view);
  EXPECT_EQ(pair[1], 2.0f);
  negate(view);
  EXPECT_EQ(pair[0], -1.5f);
  uint32_t before[2];
  std::memcpy(before, pair, sizeof pair);
  swap_bytes_of(view);
  uint32_t after[2];
  std::memcpy(after, pair, sizeof pair);
  EXPECT_EQ(after[0], __builtin_bswap32(before[0]));
  EXPECT_EQ(after[1], __builtin_bswap32(before[1]));
}

}  // namespace
}  // namespace tessera
