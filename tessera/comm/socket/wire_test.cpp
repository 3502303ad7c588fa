#include "tessera/comm/socket/wire.h"

#include <gtest/gtest.h>

#include "tessera/comm/socket/hello.h"

namespace tessera {
namespace {

constexpr int64_t no_limit = int64_t{1} << 40;

Bytes counting(size_t n) {
  Bytes bytes(n);
  for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 31 >> 3);
  return bytes;
}

TEST(Parts, OfAMessageOfAnyLengthMakeItWholeAgain) {
  const auto part = static_cast<size_t>(part_bytes);
  for (const size_t n : {size_t{0}, size_t{1}, part - 1, part, part + 1, 3 * part, 3 * part + 17}) {
    const Bytes message = counting(n);
    Assembly assembly;
    for (int twice = 0; twice < 2; ++twice) {
      std::optional<Bytes> whole;
      for (const Bytes& frame : encode_parts(0, "save", message)) {
        EXPECT_FALSE(whole);
        EXPECT_LT(frame.size(), static_cast<size_t>(frame_limit_bytes));
        whole = assembly.add(decode_message(frame), no_limit);
      }
      EXPECT_EQ(whole, message);
    }
  }
}

TEST(Parts, ThatDoNotFitTogetherAreRefused) {
  const Bytes three(3);
  EXPECT_THROW(Assembly().add({.kind = Kind::part, .first = 10, .second = 1, .bytes = three}, no_limit), Error);  // not from the start
  EXPECT_THROW(Assembly().add({.kind = Kind::part, .first = 2, .second = 0, .bytes = three}, no_limit), Error);   // longer than it says
  EXPECT_THROW(Assembly().add({.kind = Kind::part, .first = 2, .second = 0}, no_limit), Error);                   // no step forward
  EXPECT_THROW(Assembly().add({.kind = Kind::part, .first = 101, .second = 0, .bytes = three}, 100), Error);      // above the limit
  Assembly begun;
  begun.add({.kind = Kind::part, .first = 10, .second = 0, .bytes = three}, no_limit);
  EXPECT_THROW(begun.add({.kind = Kind::part, .first = 2, .second = 3, .bytes = three}, no_limit), Error);  // another length
}

TEST(Wire, AFrameCutShortIsAnError) {
  const Bytes frame = encode(Message{.kind = Kind::hello, .text = "text"});
  for (size_t n = 0; n < frame.size(); ++n) EXPECT_THROW(decode_message(std::span(frame).first(n)), Error) << n;
}

TEST(Wire, AnUnknownKindIsAnError) {
  Bytes frame = encode(Message{});
  frame[0] = std::byte{200};
  EXPECT_THROW(decode_message(frame), Error);
}

TEST(Hello, NamesTheRankAndRefusesOtherJobs) {
  EXPECT_EQ(rank_of_hello(hello_of(3, 4), 4), 3);
  EXPECT_THROW(rank_of_hello(hello_of(3, 5), 4), Error);
  EXPECT_THROW(rank_of_hello(hello_of(0, 4), 4), Error);
  EXPECT_THROW(rank_of_hello(hello_of(4, 4), 4), Error);
  Message other = hello_of(3, 4);
  other.text = "another protocol";
  EXPECT_THROW(rank_of_hello(other, 4), Error);
}

}  // namespace
}  // namespace tessera
