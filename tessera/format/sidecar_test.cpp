#include "tessera/format/sidecar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/base/byte_source.h"
#include "tessera/format/resealed_test.h"
#include "tessera/format/sidecar_layout.h"
#include "tessera/format/sidecar_reader.h"

namespace tessera::format {
namespace {

Sidecar example() {
  Sidecar sidecar{.save_id = "0123456789abcdef0123456789abcdef",
                  .metadata_bytes = 77,
                  .metadata = digest(as_bytes("m")),
                  .metadata_ends = digest_of_ends(as_bytes("m")),
                  .block_bytes = 4096};
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

constexpr std::string_view some_index = "what sidecar_index.h makes of it";

// As version 1 was written.
Bytes version_1(const Sidecar& sidecar) {
  ByteWriter out;
  out.put_raw(as_bytes(sidecar_magic));
  out.put<uint32_t>(1);
  out.put(sidecar.block_bytes);
  out.put_string(sidecar.save_id);
  out.put(sidecar.metadata_bytes);
  out.put_raw(sidecar.metadata);
  out.put<uint64_t>(sidecar.files.size());
  for (const auto& [name, file] : sidecar.files) {
    out.put_string(name);
    out.put(file.length_bytes);
    for (const Digest& block : file.blocks) out.put_raw(block);
  }
  out.put<uint64_t>(sidecar.metrics.size());
  for (const auto& [name, value] : sidecar.metrics) {
    out.put_string(name);
    out.put(value);
  }
  Bytes bytes = out.take();
  const Digest seal = digest(bytes);
  bytes.insert(bytes.end(), seal.begin(), seal.end());
  return bytes;
}

TEST(Sidecar, SaysTheSameWhenReadAgain) {
  EXPECT_EQ(decode_sidecar(encode_sidecar(example())), example());
  EXPECT_EQ(decode_sidecar(encode_sidecar(example(), as_bytes(some_index))), example());
  const Sidecar least{.save_id = "", .block_bytes = 4096};
  EXPECT_EQ(decode_sidecar(encode_sidecar(least)), least);
}

TEST(Sidecar, OfVersion1IsStillRead) {
  Sidecar expected = example();
  expected.metadata_ends = {};
  EXPECT_EQ(decode_sidecar(version_1(example())), expected);
}

TEST(Sidecar, EveryChangedByteAndEveryLengthIsRefused) {
  for (const Bytes& good : {encode_sidecar(example(), as_bytes(some_index)), version_1(example())}) {
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
}

// Whoever seals his own lies gets no further: every field is checked for itself.
TEST(Sidecar, SealedNonsenseIsRefusedWithoutAllocatingForIt) {
  const Bytes good = encode_sidecar(example(), as_bytes(some_index));
  ASSERT_EQ(resealed(good), good);
  int accepted = 0;
  for (size_t at = 0; at + sizeof(Digest) < good.size(); ++at) {
    for (const int value : {0x00, 0x01, 0x7f, 0xff}) {
      Bytes bad = good;
      bad[at] = static_cast<std::byte>(value);
      bad = resealed(bad);
      const auto decoded = capture([&] { return decode_sidecar(bad); });
      if (!decoded) {
        EXPECT_THAT(decoded.fault.code, testing::AnyOf(Code::corrupt, Code::unsupported)) << "byte " << at;
        EXPECT_EQ(decoded.fault.file, sidecar_file) << "byte " << at;
        continue;
      }
      // What is still sound says so again in the same bytes, but for the index, of which the last bytes of the body are.
      const MemorySource source(bad);
      const SidecarReader reader(source);
      Bytes index(static_cast<size_t>(reader.index().size_bytes()));
      reader.index().read(0, index);
      EXPECT_EQ(encode_sidecar(*decoded.value, index), bad) << "byte " << at;
      ++accepted;
    }
  }
  EXPECT_GT(accepted, 300) << "digests and texts may be any";
  for (size_t length = 0; length + sizeof(Digest) < good.size(); ++length) {
    EXPECT_EQ(code_of(resealed(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(length + sizeof(Digest))))), Code::corrupt);
  }
}

// A reader of version 1 checks the seal first and then the version.
TEST(Sidecar, ANewerVersionIsNamedAsSuchAndSaysWhatToDo) {
  Bytes newer = encode_sidecar(example());
  newer[16] = std::byte{3};
  newer = resealed(newer);
  EXPECT_EQ(code_of(newer), Code::unsupported);
  EXPECT_THAT(capture([&] { decode_sidecar(newer); }).fault.hint, testing::HasSubstr("update tessera"));
  EXPECT_EQ(digest(std::span(newer).first(newer.size() - sizeof(Digest))), [&] {
    Digest seal;
    std::copy(newer.end() - sizeof(Digest), newer.end(), seal.begin());
    return seal;
  }());
}

TEST(SidecarReader, ReadsTheDigestsOfTheFilesThatAreAskedFor) {
  const Bytes bytes = encode_sidecar(example(), as_bytes(some_index));
  const MemorySource source(bytes);
  const SidecarReader reader(source);
  EXPECT_EQ(reader.whole(), example());
  EXPECT_TRUE(reader.has_index());
  Sidecar one = example();
  std::erase_if(one.files, [](const auto& file) { return file.first != "__1_0.distcp"; });
  EXPECT_EQ(reader.with({"__1_0.distcp"}), one);
  EXPECT_EQ(capture([&] { return reader.with({"other"}); }).fault.code, Code::corrupt);
}

TEST(SidecarReader, OfManyFilesChecksOnlyThePagesThatItReads) {
  Sidecar sidecar = example();
  for (int f = 0; f < 3000; ++f) {
    const Digest block = digest(as_bytes(std::to_string(f)));
    sidecar.files["file " + std::to_string(10'000 + f)] = {4096 * 2, {block, block}};
  }
  Bytes bytes = encode_sidecar(sidecar, Bytes(100'000));
  bytes[bytes.size() - 50'000] ^= std::byte{1};  // in the index
  const MemorySource source(bytes);
  const SidecarReader reader(source);
  EXPECT_EQ(reader.with({"file 11234"}).files.at("file 11234"), sidecar.files.at("file 11234"));
  EXPECT_EQ(reader.whole(), sidecar);
  Bytes index(100'000);
  EXPECT_EQ(capture([&] { reader.index().read(0, index); }).fault.code, Code::corrupt);
  EXPECT_NO_THROW(reader.index().read(0, std::span(index).first(10'000))) << "another page";
}

TEST(Sidecar, TheEndsOfMetadataAreItsFirstAndLast4KiB) {
  Bytes metadata(20'000);
  const Digest ends = digest_of_ends(metadata);
  for (const size_t at : {size_t{0}, size_t{4095}, metadata.size() - 4096, metadata.size() - 1}) {
    Bytes changed = metadata;
    changed[at] = std::byte{1};
    EXPECT_NE(digest_of_ends(changed), ends) << at;
  }
  metadata[10'000] = std::byte{1};
  EXPECT_EQ(digest_of_ends(metadata), ends) << "what lies between is the whole digest's affair";
  const Bytes small(5000, std::byte{7});
  EXPECT_EQ(digest_of_ends(small), digest(small));
}

TEST(Sidecar, ASaveIdIsNotAnyNumberOfBytes) {
  Sidecar sidecar = example();
  sidecar.save_id = std::string(1024, 'x');
  EXPECT_EQ(decode_sidecar(encode_sidecar(sidecar)), sidecar);
  sidecar.save_id += 'x';
  EXPECT_EQ(capture([&] { encode_sidecar(sidecar); }).fault.code, Code::invalid_argument);
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
