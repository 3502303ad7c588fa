#include "tessera/base/large_pages.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <tuple>

namespace tessera {
namespace {

TEST(LargePages, BlocksOfAnySizeAreAlignedAndWritable) {
  for (const size_t bytes : {size_t{1}, size_t{4096}, size_t{4} << 20, (size_t{4} << 20) + 1, size_t{9'999'999}}) {
    for (const size_t alignment : {size_t{1}, size_t{64}, size_t{4096}}) {
      void* const block = large_pages().allocate(bytes, alignment);
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % alignment, 0u);
      std::memset(block, 0x5a, bytes);
      EXPECT_EQ(static_cast<const unsigned char*>(block)[bytes - 1], 0x5a);
      large_pages().deallocate(block, bytes, alignment);
    }
  }
}

TEST(LargePages, WhatCannotBeHadIsAnException) {
  EXPECT_THROW(std::ignore = large_pages().allocate(std::numeric_limits<size_t>::max() - 1, 8), std::bad_alloc);
  EXPECT_THROW(std::ignore = large_pages().allocate(std::numeric_limits<size_t>::max() / 2, 8), std::bad_alloc);
}

}  // namespace
}  // namespace tessera
