#include "tessera/layout/dtype.h"

#include <gtest/gtest.h>

#include <set>

#include "tessera/base/error.h"

namespace tessera {
namespace {

std::vector<DType> all_dtypes() {
  std::vector<DType> all;
  for (int i = 0; i <= static_cast<int>(DType::float4_e2m1fn_x2); ++i) all.push_back(static_cast<DType>(i));
  return all;
}

TEST(DType, EveryNameLeadsBackToItsDType) {
  std::set<std::string_view> names;
  for (const DType dtype : all_dtypes()) {
    EXPECT_EQ(dtype_named(name(dtype)), dtype) << name(dtype);
    names.insert(name(dtype));
  }
  EXPECT_EQ(names.size(), all_dtypes().size());
}

TEST(DType, NamesAndSizesAreThoseOfPyTorch) {
  EXPECT_EQ(name(DType::boolean), "bool");
  EXPECT_EQ(name(DType::bfloat16), "bfloat16");
  EXPECT_EQ(element_bytes(DType::boolean), 1);
  EXPECT_EQ(element_bytes(DType::bfloat16), 2);
  EXPECT_EQ(element_bytes(DType::float32), 4);
  EXPECT_EQ(element_bytes(DType::int64), 8);
  EXPECT_EQ(element_bytes(DType::complex128), 16);
  EXPECT_EQ(element_bytes(DType::float8_e4m3fn), 1);
}

TEST(DType, TheOtherByteOrderReversesHalvesOfComplexNumbers) {
  for (const DType dtype : all_dtypes()) {
    const bool complex = name(dtype).starts_with("complex");
    EXPECT_EQ(swap_bytes(dtype), element_bytes(dtype) / (complex ? 2 : 1)) << name(dtype);
  }
}

TEST(DType, AnUnknownNameIsNothing) {
  for (const char* other : {"", "float", "Float32", "float32 ", "boolean", "qint8"}) EXPECT_EQ(dtype_named(other), std::nullopt) << other;
}

TEST(DType, ANumberThatIsNoDTypeIsAnErrorAndReadsNothing) {
  for (const int number : {static_cast<int>(DType::float4_e2m1fn_x2) + 1, 100, 255}) {
    EXPECT_THROW(element_bytes(static_cast<DType>(number)), Error) << number;
    EXPECT_THROW(swap_bytes(static_cast<DType>(number)), Error) << number;
    EXPECT_THROW(name(static_cast<DType>(number)), Error) << number;
  }
}

}  // namespace
}  // namespace tessera
