#include "tessera/collectives/reduction.h"

#include <c10/util/BFloat16.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace tessera {
namespace {

template <class T>
std::vector<T> reduced(const std::vector<std::vector<T>>& parts, Reduce how) {
  std::vector<const void*> pointers;
  for (const auto& part : parts) pointers.push_back(part.data());
  std::vector<T> out(parts.front().size());
  reduce_in_order(out.data(), pointers, static_cast<int64_t>(out.size()), c10::CppTypeToScalarType<T>::value, how);
  return out;
}

TEST(Reduction, GoesInTheOrderOfTheParts) {
  EXPECT_EQ(reduced<float>({{1e8f}, {-1e8f}, {1}}, Reduce::sum), std::vector<float>{1});
  EXPECT_EQ(reduced<float>({{1}, {1e8f}, {-1e8f}}, Reduce::sum), std::vector<float>{0});
  EXPECT_EQ(reduced<double>({{1, 2}, {2, 4}}, Reduce::mean), (std::vector<double>{1.5, 3}));
  EXPECT_EQ(reduced<int64_t>({{1, -2}, {-5, 7}}, Reduce::max), (std::vector<int64_t>{1, 7}));
}

TEST(Reduction, RoundsHalvesOnce) {
  const auto half = [](float value) { return c10::BFloat16(value); };
  EXPECT_EQ(static_cast<float>(reduced<c10::BFloat16>({{half(256)}, {half(1)}, {half(1)}}, Reduce::sum)[0]), 258);
}

TEST(Reduction, WrapsIntegers) {
  EXPECT_EQ(reduced<uint8_t>({{200}, {100}}, Reduce::sum), std::vector<uint8_t>{44});
  EXPECT_EQ(reduced<int8_t>({{100}, {100}}, Reduce::sum), std::vector<int8_t>{-56});
  const int64_t most = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(reduced<int64_t>({{most}, {1}}, Reduce::sum), std::vector<int64_t>{std::numeric_limits<int64_t>::min()});
}

TEST(Reduction, KeepsANanInAMaximum) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const auto& value : reduced<float>({{nan, 1}, {1, nan}}, Reduce::max)) EXPECT_TRUE(std::isnan(value));
}

TEST(Reduction, MayGoIntoOneOfItsParts) {
  std::vector<float> first(5000, 1), second(5000, 2);
  const void* parts[] = {first.data(), second.data()};
  reduce_in_order(second.data(), parts, 5000, c10::ScalarType::Float, Reduce::sum);
  EXPECT_EQ(second, std::vector<float>(5000, 3));
  EXPECT_EQ(first, std::vector<float>(5000, 1));
}

}  // namespace
}  // namespace tessera
