#include "tessera/format/zip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tessera/base/digest.h"

namespace tessera::format {
namespace {

using ::testing::HasSubstr;

struct Content {
  std::string name;
  std::string bytes;
  bool aligned = false;
};

Bytes archive_of(const std::vector<Content>& records) {
  ZipLayout layout;
  ByteWriter out;
  for (const Content& record : records) {
    layout.add(record.name, static_cast<int64_t>(record.bytes.size()), crc32(as_bytes(record.bytes)), record.aligned);
    out.put_raw(layout.header());
    EXPECT_EQ(static_cast<int64_t>(out.size()), layout.data_offset());
    out.put_raw(as_bytes(record.bytes));
  }
  out.put_raw(layout.directory());
  return out.take();
}

// Reads every record; what a parser of hostile bytes must survive.
Outcome<std::vector<Content>> read_all(std::span<const std::byte> bytes) {
  return capture([&] {
    const MemorySource source(bytes, "f");
    const ZipReader zip(source);
    std::vector<Content> records;
    for (const ZipRecord& record : zip.records()) records.push_back({record.name, std::string(as_text(zip.read(record, 1 << 20)))});
    return records;
  });
}

RC_GTEST_PROP(Zip, WhatIsLaidOutIsRead, (std::vector<std::string> contents, bool aligned)) {
  std::vector<Content> records;
  for (size_t i = 0; i < contents.size(); ++i) records.push_back({"archive/" + std::to_string(i), contents[i], aligned});
  const auto read = read_all(archive_of(records));
  RC_ASSERT(read.value.has_value());
  RC_ASSERT(read.value->size() == records.size());
  for (size_t i = 0; i < records.size(); ++i) RC_ASSERT((*read.value)[i].bytes == records[i].bytes);
}

TEST(Zip, DataThatIsToBeAlignedStartsAtAMultipleOf64) {
  ZipLayout layout;
  layout.add("archive/data.pkl", 155, 0, false);
  layout.add("archive/data/0", 10, 0, true);
  EXPECT_EQ(layout.data_offset() % 64, 0);
}

TEST(Zip, SizesPast4GiBAreWrittenAsZip64) {
  ZipLayout layout;
  layout.add("archive/data/0", int64_t{5} << 30, 7, true);
  const Bytes directory = layout.directory();
  EXPECT_THAT(std::string(as_text(directory)), HasSubstr("PK\x06\x06"));
  EXPECT_THAT(std::string(as_text(directory)), HasSubstr("PK\x06\x07"));
  EXPECT_EQ(layout.end(), layout.data_offset() + (int64_t{5} << 30));
}

TEST(Zip, AFlippedBitIsFoundByTheCrc) {
  Bytes bytes = archive_of({{"archive/x", "some content"}});
  bytes[30 + 9 + 3] ^= std::byte{1};
  EXPECT_THAT(read_all(bytes).fault.what, HasSubstr("CRC-32"));
}

TEST(Zip, RefusesTwoRecordsOfOneNameAndUnsafeNames) {
  EXPECT_THAT(read_all(archive_of({{"archive/x", "1"}, {"archive/x", "2"}})).fault.what, HasSubstr("one name"));
  for (const char* name : {"/x", "../x", "a/../x", "a\\x"})
    EXPECT_THAT(read_all(archive_of({{name, "1"}})).fault.what, HasSubstr("unsafe")) << name;
}

TEST(Zip, EveryTruncationIsRefused) {
  const Bytes bytes = archive_of({{"archive/x", "some content"}, {"archive/y", "more", true}});
  for (size_t length = 0; length < bytes.size(); ++length) EXPECT_FALSE(read_all(std::span(bytes).first(length))) << length;
}

TEST(Zip, EveryFlippedByteIsRefusedOrChangesNoContent) {
  const std::vector<Content> records = {{"archive/x", "some content"}, {"archive/y", "more", true}};
  const Bytes bytes = archive_of(records);
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const uint8_t mask : {0x01, 0x80, 0xff}) {
      Bytes damaged = bytes;
      damaged[at] ^= std::byte{mask};
      const auto read = read_all(damaged);
      if (!read) {
        EXPECT_NE(read.fault.code, Code::internal) << at;
        continue;
      }
      ASSERT_EQ(read.value->size(), records.size()) << at;
      for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ((*read.value)[i].bytes, records[i].bytes) << at;
    }
  }
}

}  // namespace
}  // namespace tessera::format
