#include "tessera/format/sidecar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::format {
namespace {

Sidecar example() {
  Sidecar sidecar{
      .save_id = "0123456789abcdef0123456789abcdef", .metadata_bytes = 77, .metadata = digest(as_bytes("m")), .block_bytes = 4096};
  sidecar.files["__0_0.distcp"] = {4097, {digest(as_bytes("a")), digest(as_bytes("b"))}};
  sidecar.files["__1_0.distcp"] = {4096, {digest(as_bytes("c"))}};
  sidecar.files["empty"] = {0, {}};
  sidecar.metrics["loss"] = 0.25;
  return sidecar;
}

Code code_of(std::span<const std::byte> bytes) {
  const auto decoded = capture([&] { return decode_sidecar(bytes); });
  EXPECT_FALSE(decoded);
  EXPECT_EQ(decoded.fault.file, sidecar_file);
  return decoded.fault.code;
}

// The seal of bytes that were changed on purpose.
Bytes sealed(Bytes bytes) {
  bytes.resize(bytes.size() - sizeof(Digest));
  const Digest seal = digest(bytes);
  bytes.insert(bytes.end(), seal.begin(), seal.end());
  return bytes;
}

TEST(Sidecar, SaysTheSameWhenReadAgain) {
  EXPECT_EQ(decode_sidecar(encode_sidecar(example())), example());
  const Sidecar least{.save_id = "", .block_bytes = 4096};
  EXPECT_EQ(decode_sidecar(encode_sidecar(least)), least);
}

TEST(Sidecar, EveryChangedByteAndEveryLengthIsRefused) {
  const Bytes good = encode_sidecar(example());
  for (size_t at = 0; at < good.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      Bytes bad = good;
      bad[at] ^= static_cast<std::byte>(flip);
      EXPECT_EQ(code_of(bad), Code::corrupt) << "byte " << at;
    }
  }
  for (size_t length = 0; length < good.size(); ++length) EXPECT_EQ(code_of(std::span(good).first(length)), Code::corrupt) << length;
  Bytes longer = good;
  longer.push_back(std::byte{0});
  EXPECT_EQ(code_of(longer), Code::corrupt);
}

// Whoever seals his own lies gets no further: every field is checked for itself.
TEST(Sidecar, SealedNonsenseIsRefusedWithoutAllocatingForIt) {
  const Bytes good = encode_sidecar(example());
  for (size_t at = 0; at + sizeof(Digest) < good.size(); ++at) {
    Bytes bad = good;
    bad[at] = std::byte{0xff};
    const auto decoded = capture([&] { return decode_sidecar(sealed(bad)); });
    // What is still sound says so again in the same bytes.
    if (decoded) EXPECT_EQ(encode_sidecar(*decoded.value), sealed(bad)) << "byte " << at;
    else EXPECT_THAT(decoded.fault.code, testing::AnyOf(Code::corrupt, Code::unsupported)) << "byte " << at;
  }
  for (size_t length = 0; length + sizeof(Digest) < good.size(); ++length) {
    EXPECT_EQ(code_of(sealed(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length + sizeof(Digest))))), Code::corrupt);
  }
}

TEST(Sidecar, ANewerVersionIsNamedAsSuch) {
  Bytes newer = encode_sidecar(example());
  newer[16] = std::byte{2};
  EXPECT_EQ(code_of(sealed(newer)), Code::unsupported);
}

TEST(Sidecar, CountsBlocksWithoutOverflow) {
  EXPECT_EQ(block_count(0, 4096), 0);
  EXPECT_EQ(block_count(1, 4096), 1);
  EXPECT_EQ(block_count(4096, 4096), 1);
  EXPECT_EQ(block_count(4097, 4096), 2);
  EXPECT_EQ(block_count(INT64_MAX, 4096), INT64_MAX / 4096 + 1);
}

}  // namespace
}  // namespace tessera::format
