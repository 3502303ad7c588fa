#include "tessera/base/stream_copy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace tessera {
namespace {

TEST(StreamCopy, CopiesEveryByteAndNoOtherFromAnyPlaceToAny) {
  std::vector<std::byte> from(70'000), to(70'000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(i * 2654435761U >> 9);
  for (const size_t count :
       {size_t{0}, size_t{1}, size_t{63}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{16'384}, size_t{16'447}, size_t{50'001}}) {
    for (size_t a = 0; a < 70; a += 3) {
      for (size_t b = 0; b < 70; b += 7) {
        std::ranges::fill(to, std::byte{0xee});
        stream_copy(to.data() + b, from.data() + a, count);
        ASSERT_TRUE(std::equal(to.begin() + static_cast<std::ptrdiff_t>(b), to.begin() + static_cast<std::ptrdiff_t>(b + count),
                               from.begin() + static_cast<std::ptrdiff_t>(a)));
        ASSERT_TRUE(std::all_of(to.begin(), to.begin() + static_cast<std::ptrdiff_t>(b), [](std::byte x) { return x == std::byte{0xee}; }));
        ASSERT_TRUE(
            std::all_of(to.begin() + static_cast<std::ptrdiff_t>(b + count), to.end(), [](std::byte x) { return x == std::byte{0xee}; }));
      }
    }
  }
}

}  // namespace
}  // namespace tessera
