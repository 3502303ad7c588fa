#include "tessera/base/byte_source.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tessera {
namespace {

std::string read(const ByteSource& source, int64_t offset, size_t count) {
  Bytes bytes(count);
  source.read(offset, bytes);
  return std::string(as_text(bytes));
}

TEST(MemorySource, ReadsWhatIsInsideAndNothingElse) {
  const MemorySource source(as_bytes("0123456789"), "f");
  EXPECT_EQ(read(source, 0, 10), "0123456789");
  EXPECT_EQ(read(source, 9, 1), "9");
  EXPECT_EQ(read(source, 10, 0), "");
  for (const auto& [offset, count] : {std::pair<int64_t, size_t>(10, 1), {9, 2}, {11, 0}, {-1, 1}, {INT64_MAX, 1}, {INT64_MIN, 1}}) {
    const auto outcome = capture([&] { read(source, offset, count); });
    ASSERT_FALSE(outcome) << offset;
    EXPECT_EQ(outcome.fault, (Fault{.code = Code::corrupt, .what = "file ends early", .file = "f", .offset_bytes = offset}));
  }
}

TEST(PartSource, CountsFromItsOwnBeginningAndTellsThePlaceInTheFile) {
  const MemorySource file(as_bytes("0123456789"), "f");
  const PartSource part(file, 2, 6);
  const PartSource inner(part, 1, 4);
  EXPECT_EQ(inner.size_bytes(), 4);
  EXPECT_EQ(inner.origin_bytes(), 3);
  EXPECT_EQ(inner.file(), "f");
  EXPECT_EQ(read(inner, 0, 4), "3456");
  const auto outcome = capture([&] { read(inner, 3, 2); });
  ASSERT_FALSE(outcome);
  EXPECT_EQ(outcome.fault.what, "item ends early");
  EXPECT_EQ(outcome.fault.offset_bytes, 6);
}

TEST(PartSource, RefusesAPartThatIsNotInside) {
  const MemorySource file(as_bytes("0123456789"), "f");
  for (const auto& [begin, size] :
       {std::pair<int64_t, int64_t>(5, 6), {-1, 2}, {11, 0}, {0, -1}, {1, INT64_MAX}, {INT64_MAX, 1}, {INT64_MIN, 1}}) {
    EXPECT_THROW(PartSource(file, begin, size), Error) << begin << " " << size;
  }
  EXPECT_EQ(PartSource(file, 10, 0).size_bytes(), 0);
}

RC_GTEST_PROP(PartSource, APartOfAPartReadsAsTheSamePlaceOfTheWhole, ()) {
  const auto text = *rc::gen::string<std::string>();
  const auto size = static_cast<int64_t>(text.size());
  const auto begin = *rc::gen::inRange<int64_t>(0, size + 1);
  const auto length = *rc::gen::inRange<int64_t>(0, size - begin + 1);
  const auto offset = *rc::gen::inRange<int64_t>(0, length + 1);
  const auto count = *rc::gen::inRange<int64_t>(0, length - offset + 1);
  const MemorySource file(as_bytes(text));
  const PartSource part(file, begin, length);
  RC_ASSERT(read(part, offset, static_cast<size_t>(count)) == text.substr(static_cast<size_t>(begin + offset), static_cast<size_t>(count)));
}

TEST(Inside, HoldsAtTheEdgesOfTheNumbers) {
  EXPECT_TRUE(inside(0, 0, 0));
  EXPECT_TRUE(inside(0, INT64_MAX, INT64_MAX));
  EXPECT_FALSE(inside(1, INT64_MAX, INT64_MAX));
  EXPECT_FALSE(inside(0, ~uint64_t{0}, INT64_MAX));
  EXPECT_FALSE(inside(INT64_MAX, 1, INT64_MAX));
}

}  // namespace
}  // namespace tessera
