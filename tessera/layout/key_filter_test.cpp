#include "tessera/layout/key_filter.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(Pattern, CoversTheWholeKey) {
  EXPECT_TRUE(matches("model.*", "model.a.weight"));
  EXPECT_FALSE(matches("model", "model.a"));
  EXPECT_FALSE(matches("*.weight", "a.weight.x"));
  EXPECT_TRUE(matches("*.weight", "a.b.weight"));
  EXPECT_TRUE(matches("layers.?.*", "layers.3.bias"));
  EXPECT_FALSE(matches("layers.?.*", "layers.12.bias"));
  EXPECT_TRUE(matches("*a*b*", "xxaxxbxx"));
  EXPECT_FALSE(matches("*a*b*", "xxbxxaxx"));
  EXPECT_TRUE(matches("**", ""));
  EXPECT_FALSE(matches("?", ""));
  EXPECT_TRUE(matches(std::string_view("a\0*", 3), std::string_view("a\0b", 3)));
}

TEST(Pattern, TakesNoLongerThanPatternTimesKey) {
  const std::string key(20000, 'a');
  EXPECT_FALSE(matches("*a*a*a*a*a*a*a*a*b", key));
}

TEST(KeyFilter, TakesWhatIsNamedAndNotExcluded) {
  const KeyFilter filter{{"model.*", "step"}, {"*.bias"}};
  EXPECT_TRUE(filter.takes("model.w"));
  EXPECT_TRUE(filter.takes("step"));
  EXPECT_FALSE(filter.takes("model.bias"));
  EXPECT_FALSE(filter.takes("model.a.bias"));
  EXPECT_FALSE(filter.takes("optim.w"));
  EXPECT_TRUE(KeyFilter{}.takes("anything"));
  EXPECT_FALSE(KeyFilter({}, {"*"}).takes("anything"));
}

}  // namespace
}  // namespace tessera
