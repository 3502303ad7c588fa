#include "tessera/base/digest.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <optional>
#include <set>
#include <vector>

#include "tessera/base/bytes.h"

namespace tessera {
namespace {

std::string hex(const Digest& digest) {
  std::string text;
  for (const std::byte b : digest) {
    text += "0123456789abcdef"[std::to_integer<int>(b) >> 4];
    text += "0123456789abcdef"[std::to_integer<int>(b) & 15];
  }
  return text;
}

// One bit at a time, from the definition of CRC-32/ISO-HDLC.
uint32_t slow_crc32(std::string_view text) {
  uint32_t crc = ~uint32_t{0};
  for (const char c : text) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

TEST(Crc32, IsTheOneOfZip) {
  EXPECT_EQ(crc32({}), 0u);
  EXPECT_EQ(crc32(as_bytes("123456789")), 0xcbf43926u);  // the check value of its catalogue entry
  EXPECT_EQ(crc32(as_bytes("a")), 0xe8b7be43u);
}

RC_GTEST_PROP(Crc32, AgreesWithItsDefinitionAlsoWhenTakenInParts, (const std::string& text)) {
  const auto cut = *rc::gen::inRange<size_t>(0, text.size() + 1);
  const auto bytes = as_bytes(text);
  RC_ASSERT(crc32(bytes) == slow_crc32(text));
  RC_ASSERT(crc32(bytes.subspan(cut), crc32(bytes.first(cut))) == slow_crc32(text));
}

// The values that xxhash's own command line prints (xxh128sum): big-endian.
TEST(DigestOf, IsXxh3InItsCanonicalForm) {
  EXPECT_EQ(hex(digest({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hex(digest(as_bytes("a"))), "a96faf705af16834e6c632b61e964e1f");
}

RC_GTEST_PROP(DigestOf, AnyFlippedBitChangesIt, (std::string text)) {
  RC_PRE(!text.empty());
  const Digest before = digest(as_bytes(text));
  text[*rc::gen::inRange<size_t>(0, text.size())] ^= static_cast<char>(1 << *rc::gen::inRange(0, 8));
  RC_ASSERT(digest(as_bytes(text)) != before);
}

RC_GTEST_PROP(DigestStream, GivesTheDigestOfTheWholeHoweverItIsCut, (const std::string& text)) {
  const std::string large = text + std::string(*rc::gen::inRange<size_t>(0, 3000), 'x');
  const auto bytes = as_bytes(large);
  DigestStream stream;
  for (size_t at = 0; at < bytes.size();) {
    const auto count = *rc::gen::inRange<size_t>(1, bytes.size() - at + 1);
    stream.add(bytes.subspan(at, count));
    at += count;
  }
  RC_ASSERT(stream.result() == digest(bytes));
}

TEST(RandomId, Is32HexadecimalDigitsAndNeverTheSame) {
  std::set<std::string> ids;
  for (int i = 0; i < 100; ++i) {
    const std::string id = random_id();
    EXPECT_EQ(id.size(), 32u);
    EXPECT_EQ(id.find_first_not_of("0123456789abcdef"), std::string::npos);
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), 100u);
}

TEST(Crc32, OfTwoPiecesIsThatOfBothTogether) {
  std::vector<std::byte> bytes(100'003);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 2654435761U >> 7);
  for (const size_t cut : {size_t{0}, size_t{1}, size_t{4096}, bytes.size() - 1, bytes.size()}) {
    const auto first = std::span(bytes).first(cut), second = std::span(bytes).subspan(cut);
    EXPECT_EQ(joined_crc32(crc32(first), crc32(second), static_cast<int64_t>(second.size())), crc32(bytes));
  }
}

#if defined(__x86_64__)
// The parts of the processor's state that are in use, or nothing where it does not tell.
std::optional<uint64_t> state_in_use() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(1, 0, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0) return std::nullopt;
  if (!__get_cpuid_count(13, 1, &a, &b, &c, &d) || (a & 4) == 0) return std::nullopt;
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
  return (uint64_t{high} << 32) | low;
}

// Else all that runs after them is slowed down, and nothing else would tell.
TEST(Digest, LeavesTheUpperHalvesOfWideRegistersUnused) {
  constexpr uint64_t upper_halves = (1 << 2) | (1 << 6);  // of the registers that SSE instructions use: of 32, and of 64 bytes
  if (!state_in_use()) GTEST_SKIP() << "this processor does not tell";
  const std::vector<std::byte> bytes(1 << 20);
  const auto left_in_use_by = [&](auto work) {
    work();
    return *state_in_use() & upper_halves;
  };
  EXPECT_EQ(left_in_use_by([&] { digest(bytes); }), 0u);
  EXPECT_EQ(left_in_use_by([&] { crc32(bytes); }), 0u);
  DigestStream stream;
  EXPECT_EQ(left_in_use_by([&] { stream.add(bytes); }), 0u);
  EXPECT_EQ(left_in_use_by([&] { stream.result(); }), 0u);
}
#endif

}  // namespace
}  // namespace tessera
