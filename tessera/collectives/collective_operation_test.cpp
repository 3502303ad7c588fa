#include "tessera/collectives/collective_operation.h"

#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

using testing::HasSubstr;

CollectiveOperation gather_for(std::string_view label) { return operation(CollectiveKind::all_gather, at::empty({4}), label); }

TEST(CollectiveOperation, IsToldByItsLabelAndSize) {
  EXPECT_EQ(describe(gather_for("h.3")), "all_gather of h.3 (4 Float)");
  EXPECT_EQ(describe(gather_for({})), "all_gather of 4 Float");
}

TEST(CollectiveOperation, KeepsTheEndOfALongLabelAndComparesAllOfIt) {
  const std::string same_end(200, 'x');
  EXPECT_THAT(describe(gather_for("a." + same_end)), HasSubstr("of " + std::string(96, 'x') + " ("));
  EXPECT_EQ(gather_for("a." + same_end), gather_for("a." + same_end));
  EXPECT_NE(gather_for("a." + same_end), gather_for("b." + same_end));
}

TEST(CollectiveOperation, CountsAsPeopleDo) {
  for (const auto& [number, word] :
       {std::pair(0, "1st,"), std::pair(1, "2nd,"), std::pair(2, "3rd,"), std::pair(3, "4th,"), std::pair(10, "11th,"),
        std::pair(12, "13th,"), std::pair(20, "21st,"), std::pair(110, "111th,"), std::pair(121, "122nd,")}) {
    CollectiveOperation launched = gather_for("h.3");
    launched.number = static_cast<uint64_t>(number);
    EXPECT_THAT(different_ways(1, launched, 0, gather_for("h.2")).what, HasSubstr(" as its " + std::string(word)));
  }
}

}  // namespace
}  // namespace tessera
