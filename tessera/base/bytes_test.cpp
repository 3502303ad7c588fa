#include "tessera/base/bytes.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

namespace tessera {
namespace {

RC_GTEST_PROP(Bytes, WhatIsPutComesBackInOrder,
              (uint8_t a, int64_t b, double c, bool d, std::string e, std::vector<int32_t> f, std::vector<uint8_t> g)) {
  ByteWriter out;
  out.put(a);
  out.put(b);
  out.put(c);
  out.put(d);
  out.put_string(e);
  out.put_list(std::span<const int32_t>(f));
  out.put_raw(std::as_bytes(std::span(g)));
  const size_t size = out.size();
  const Bytes bytes = out.take();
  RC_ASSERT(bytes.size() == size);
  ByteReader in(bytes);
  RC_ASSERT(in.get<uint8_t>() == a);
  RC_ASSERT(in.get<int64_t>() == b);
  RC_ASSERT(std::bit_cast<uint64_t>(in.get<double>()) == std::bit_cast<uint64_t>(c));
  RC_ASSERT(in.get<bool>() == d);
  RC_ASSERT(in.get_string() == e);
  RC_ASSERT(in.get_list<int32_t>() == f);
  RC_ASSERT(in.left() == g.size());
  const auto raw = in.get_raw(g.size());
  RC_ASSERT(std::ranges::equal(raw, std::as_bytes(std::span(g))));
  RC_ASSERT(in.empty());
}

// A message that is cut anywhere is an error, and never a value.
RC_GTEST_PROP(Bytes, ACutMessageIsCorrupt, (std::vector<int64_t> values, std::string text)) {
  ByteWriter out;
  out.put_list(std::span<const int64_t>(values));
  out.put_string(text);
  const Bytes bytes = out.take();
  const auto length = *rc::gen::inRange<size_t>(0, bytes.size());
  ByteReader in{std::span(bytes).first(length)};
  const auto outcome = capture([&] {
    in.get_list<int64_t>();
    in.get_string();
  });
  RC_ASSERT(!outcome);
  RC_ASSERT(outcome.fault.code == Code::corrupt);
}

TEST(Bytes, ALengthThatNoMessageCanHoldIsRefusedBeforeItIsAllocated) {
  for (const uint64_t count : {uint64_t{2}, uint64_t{1} << 61, (uint64_t{1} << 61) + 1, ~uint64_t{0}}) {
    ByteWriter out;
    out.put(count);
    out.put(int64_t{7});
    const Bytes bytes = out.take();
    EXPECT_THROW(ByteReader(bytes).get_list<int64_t>(), Error) << count;
    EXPECT_THROW(ByteReader(bytes).get_count(8), Error) << count;
    if (count > 8) {
      EXPECT_THROW(ByteReader(bytes).get_bytes(), Error) << count;
      EXPECT_THROW(ByteReader(bytes).get_count(0), Error) << count;
    }
  }
}

TEST(Bytes, ABoolIsZeroOrOne) {
  const Bytes bytes = {std::byte{0}, std::byte{1}, std::byte{2}};
  ByteReader in(bytes);
  EXPECT_FALSE(in.get<bool>());
  EXPECT_TRUE(in.get<bool>());
  EXPECT_THROW(in.get<bool>(), Error);
}

TEST(Bytes, NumbersAreLittleEndian) {
  ByteWriter out;
  out.put<uint32_t>(0x01020304);
  EXPECT_EQ(out.take(), (Bytes{std::byte{4}, std::byte{3}, std::byte{2}, std::byte{1}}));
}

}  // namespace
}  // namespace tessera
