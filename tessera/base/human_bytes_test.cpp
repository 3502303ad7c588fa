#include "tessera/base/human_bytes.h"

#include <gtest/gtest.h>

namespace tessera {
namespace {

TEST(HumanBytes, AreExactWhileTheyAreFew) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(int64_t{3} << 40), "3.0 TiB");
  EXPECT_EQ(human_bytes(INT64_MAX), "8.0 EiB");
}

}  // namespace
}  // namespace tessera
