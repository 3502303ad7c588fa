// Archives as hostile and damaged ones are, part by part; zip_test.cpp has the good ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <functional>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"
#include "tessera/format/zip.h"

namespace tessera::format {
namespace {

using testing::HasSubstr;
using Records = std::vector<std::pair<std::string, std::string>>;

// An archive of these records, as our writers lay it out.
Bytes archive_of(const Records& records, bool aligned = false) {
  ZipLayout layout;
  ByteWriter out;
  for (const auto& [name, content] : records) {
    layout.add(name, static_cast<int64_t>(content.size()), crc32(as_bytes(content)), aligned);
    out.put_raw(layout.header());
    EXPECT_EQ(static_cast<int64_t>(out.size()), layout.data_offset());
    out.put_raw(as_bytes(content));
    EXPECT_EQ(static_cast<int64_t>(out.size()), layout.end());
  }
  out.put_raw(layout.directory());
  return out.take();
}

std::string content_of(const ZipReader& zip, const std::string& name) {
  const ZipRecord* record = zip.find(name);
  return record ? std::string(as_text(zip.read(*record, 1 << 20))) : "(none)";
}

// What is wrong with an archive; opens it and reads every record.
Fault fault_of_reading(const Bytes& bytes) {
  const MemorySource source(bytes, "file");
  try {
    const ZipReader zip(source);
    for (const ZipRecord& record : zip.records()) zip.check(record);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault().file, "file");
    EXPECT_GE(error.fault().offset_bytes, 0);
    return error.fault();
  }
  ADD_FAILURE() << "was read";
  return {};
}

template <class T>
void put_at(Bytes& bytes, size_t at, T value) {
  ASSERT_LE(at + sizeof value, bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

size_t find_in(const Bytes& bytes, std::string_view what, size_t from = 0) {
  const size_t at = as_text(bytes).find(what, from);
  EXPECT_NE(at, std::string_view::npos);
  return at;
}

const Records two = {{"a/one", "first"}, {"a/two", "second record"}};
const std::string_view central = "PK\1\2", local = "PK\3\4", end_record = "PK\5\6";

TEST(Zip, RefusesEveryPrefixAndEverySuffix) {
  const Bytes whole = archive_of(two);
  for (size_t length = 0; length < whole.size(); ++length) {
    SCOPED_TRACE(length);
    EXPECT_EQ(fault_of_reading(Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length))).code, Code::corrupt);
    EXPECT_EQ(fault_of_reading(Bytes(whole.begin() + static_cast<std::ptrdiff_t>(length) + 1, whole.end())).code, Code::corrupt);
  }
}

TEST(Zip, RefusesADirectoryThatIsNotWhereTheEndRecordSays) {
  for (const int by : {-1, 1, 1000}) {
    Bytes bytes = archive_of(two);
    const size_t end = find_in(bytes, end_record);
    uint32_t at = 0;
    std::memcpy(&at, bytes.data() + end + 16, sizeof at);
    put_at(bytes, end + 16, at + static_cast<uint32_t>(by));
    EXPECT_EQ(fault_of_reading(bytes).code, Code::corrupt);
  }
}

TEST(Zip, RefusesMoreOrFewerEntriesThanTheEndRecordSays) {
  for (const uint16_t entries : {0, 1, 3, 60000}) {
    Bytes bytes = archive_of(two);
    const size_t end = find_in(bytes, end_record);
    put_at(bytes, end + 8, entries);
    put_at(bytes, end + 10, entries);
    EXPECT_EQ(fault_of_reading(bytes).code, Code::corrupt) << entries;
  }
}

TEST(Zip, RefusesAnArchiveOfSeveralDisks) {
  Bytes bytes = archive_of(two);
  put_at<uint16_t>(bytes, find_in(bytes, end_record) + 4, 1);
  EXPECT_EQ(fault_of_reading(bytes).code, Code::unsupported);
}

TEST(Zip, RefusesCompressionAndEncryption) {
  Bytes compressed = archive_of(two);
  put_at<uint16_t>(compressed, find_in(compressed, central) + 10, 8);
  EXPECT_EQ(fault_of_reading(compressed).code, Code::unsupported);
  Bytes encrypted = archive_of(two);
  put_at<uint16_t>(encrypted, find_in(encrypted, central) + 8, 0x801);
  EXPECT_EQ(fault_of_reading(encrypted).code, Code::unsupported);
}

TEST(Zip, RefusesNamesThatLeadOutAndNamesThatRepeat) {
  for (const char* name : {"/abs", "../up", "a/../b", "a/..", "..", "", "a\\b"}) {
    EXPECT_EQ(fault_of_reading(archive_of({{name, "x"}})).code, Code::corrupt) << name;
  }
  EXPECT_EQ(fault_of_reading(archive_of({{std::string("a\0b", 3), "x"}})).code, Code::corrupt);
  EXPECT_THAT(fault_of_reading(archive_of({{"a/x", "1"}, {"a/x", "2"}})).what, HasSubstr("one name"));
}

TEST(Zip, RefusesALocalHeaderThatDiffersFromTheDirectory) {
  const Bytes whole = archive_of(two);
  const size_t second = find_in(whole, local, 4);
  const std::vector<std::pair<const char*, std::function<void(Bytes&)>>> changes = {
      {"signature", [&](Bytes& bytes) { put_at<uint8_t>(bytes, second, 'Q'); }},
      {"flags", [&](Bytes& bytes) { put_at<uint16_t>(bytes, second + 6, 0x808); }},
      {"method", [&](Bytes& bytes) { put_at<uint16_t>(bytes, second + 8, 8); }},
      {"crc", [&](Bytes& bytes) { put_at<uint32_t>(bytes, second + 14, 1); }},
      {"packed size", [&](Bytes& bytes) { put_at<uint32_t>(bytes, second + 18, 12); }},
      {"size", [&](Bytes& bytes) { put_at<uint32_t>(bytes, second + 22, 12); }},
      {"size in a zip64 extra that is not there", [&](Bytes& bytes) { put_at<uint32_t>(bytes, second + 22, 0xffffffff); }},
      {"name length", [&](Bytes& bytes) { put_at<uint16_t>(bytes, second + 26, 4); }},
      {"extra length", [&](Bytes& bytes) { put_at<uint16_t>(bytes, second + 28, 60000); }},
      {"name", [&](Bytes& bytes) { put_at<uint8_t>(bytes, second + 30, 'b'); }},
  };
  for (const auto& [what, change] : changes) {
    SCOPED_TRACE(what);
    Bytes bytes = whole;
    change(bytes);
    EXPECT_EQ(fault_of_reading(bytes).code, Code::corrupt);
  }
}

TEST(Zip, RefusesRecordsThatOverlap) {
  // The first record is said to be as long as to reach into the second one's header.
  Bytes bytes = archive_of(two);
  const size_t first = find_in(bytes, local), entry = find_in(bytes, central);
  for (const size_t at : {first + 18, first + 22, entry + 20, entry + 24}) put_at<uint32_t>(bytes, at, 6);
  EXPECT_THAT(fault_of_reading(bytes).what, HasSubstr("differs from the directory"));
  // Both entries name one header.
  Bytes twice = archive_of(two);
  put_at<uint32_t>(twice, find_in(twice, central, find_in(twice, central) + 4) + 42, 0);
  EXPECT_THAT(fault_of_reading(twice).what, HasSubstr("in one place"));
}

TEST(Zip, RefusesAnEntryThatOverlapsTheDirectory) {
  Bytes bytes = archive_of(two);
  const size_t second = find_in(bytes, local, 4), entry = find_in(bytes, central, find_in(bytes, central) + 4);
  for (const size_t at : {second + 18, second + 22, entry + 20, entry + 24}) put_at<uint32_t>(bytes, at, 14);
  EXPECT_EQ(fault_of_reading(bytes).code, Code::corrupt);
  for (const size_t at : {second + 18, second + 22, entry + 20, entry + 24}) put_at<uint32_t>(bytes, at, 0xfffffff0);
  EXPECT_THAT(fault_of_reading(bytes).what, HasSubstr("outside its archive"));
}

TEST(Zip, RefusesWhatStandsBeforeTheFirstRecordOrAfterTheEnd) {
  Bytes after = archive_of(two);
  after.push_back(std::byte{0});
  EXPECT_THAT(fault_of_reading(after).what, HasSubstr("no end record"));
  // A first entry that is struck from the directory: its header stands before the first known record.
  Bytes before = archive_of(two);
  const size_t entry = find_in(before, central), next = find_in(before, central, entry + 4);
  before.erase(before.begin() + static_cast<std::ptrdiff_t>(entry), before.begin() + static_cast<std::ptrdiff_t>(next));
  const size_t end = find_in(before, end_record);
  put_at<uint16_t>(before, end + 8, 1);
  put_at<uint16_t>(before, end + 10, 1);
  put_at<uint32_t>(before, end + 12, static_cast<uint32_t>(end - entry));
  EXPECT_THAT(fault_of_reading(before).what, HasSubstr("does not begin"));
}

TEST(Zip, ARecordThatIsTooLargeForItsReaderIsRefused) {
  const Bytes bytes = archive_of(two);
  const MemorySource source(bytes);
  const ZipReader zip(source);
  EXPECT_EQ(as_text(zip.read(*zip.find("a/one"), 5)), "first");
  EXPECT_THROW(zip.read(*zip.find("a/one"), 4), Error);
}

// What stands in few places of a large file; zeros elsewhere.
class SparseSource final : public ByteSource {
 public:
  void put(int64_t at, std::span<const std::byte> bytes) {
    pieces_.emplace_back(at, Bytes(bytes.begin(), bytes.end()));
    size_ = std::max(size_, at + static_cast<int64_t>(bytes.size()));
  }
  int64_t size_bytes() const override { return size_; }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override {
    if (!inside(offset_bytes, into.size(), size_)) throw corrupt_at(*this, offset_bytes, "file ends early");
    std::ranges::fill(into, std::byte{0});
    for (const auto& [at, bytes] : pieces_) {
      const int64_t begin = std::max(at, offset_bytes);
      const int64_t end = std::min(at + static_cast<int64_t>(bytes.size()), offset_bytes + static_cast<int64_t>(into.size()));
      if (begin < end) std::copy_n(bytes.begin() + (begin - at), end - begin, into.begin() + (begin - offset_bytes));
    }
  }
  std::string file() const override { return "sparse"; }
  int64_t origin_bytes() const override { return 0; }

 private:
  std::vector<std::pair<int64_t, Bytes>> pieces_;
  int64_t size_ = 0;
};

TEST(Zip, RecordsBeyond4GiBUseZip64AndOnlyThese) {
  for (const int64_t size : {int64_t{0xfffffffe}, int64_t{0xffffffff}, int64_t{0x100000000}, int64_t{1} << 40}) {
    SCOPED_TRACE(size);
    SparseSource source;
    ZipLayout layout;
    layout.add("a/small", 1, crc32(as_bytes("s")), false);
    source.put(0, layout.header());
    source.put(layout.data_offset(), as_bytes("s"));
    const int64_t large_at = layout.end();
    layout.add("a/large", size, 7, true);
    source.put(large_at, layout.header());
    const int64_t data_at = layout.data_offset();
    EXPECT_EQ(data_at % 64, 0);
    EXPECT_EQ(layout.end(), data_at + size);
    const int64_t far_at = layout.end();
    layout.add("a/far", 3, crc32(as_bytes("far")), false);
    source.put(far_at, layout.header());
    source.put(layout.data_offset(), as_bytes("far"));
    source.put(layout.end(), layout.directory());
    const ZipReader zip(source);
    EXPECT_EQ(content_of(zip, "a/small"), "s");
    EXPECT_EQ(content_of(zip, "a/far"), "far");
    EXPECT_EQ(zip.find("a/large")->size_bytes, size);
    EXPECT_EQ(zip.find("a/large")->crc, 7u);
    EXPECT_EQ(zip.data_offset(*zip.find("a/large")), data_at);
    const Bytes directory = layout.directory();
    const bool zip64 = as_text(directory).find("PK\6\6") != std::string_view::npos;
    EXPECT_TRUE(zip64) << "the last record lies past 4 GiB";
  }
  EXPECT_EQ(as_text(archive_of(two)).find("PK\6\6"), std::string_view::npos);
}

TEST(Zip, RefusesZip64NumbersThatDisagree) {
  SparseSource source;
  ZipLayout layout;
  layout.add("a/large", int64_t{1} << 33, 7, true);
  const Bytes header = layout.header(), directory = layout.directory();
  const auto open = [&](const Bytes& first, const Bytes& last) {
    SparseSource changed;
    changed.put(0, first);
    changed.put(layout.end(), last);
    const ZipReader zip(changed);
    zip.data_offset(zip.records().front());
  };
  EXPECT_NO_THROW(open(header, directory));
  const size_t extra = find_in(header, std::string_view("\1\0\x10\0", 4));
  for (const size_t at : {extra + 4, extra + 12}) {
    Bytes changed = header;
    put_at<uint64_t>(changed, at, 5);
    EXPECT_THROW(open(changed, directory), Error) << at;
  }
  // In the directory: the entry's numbers, and each number of the zip64 end record and its locator.
  int refused = 0;
  for (size_t at = 46; at + 22 < directory.size(); ++at) {
    Bytes changed = directory;
    changed[at] ^= std::byte{1};
    try {
      open(header, changed);
    } catch (const Error&) {
      ++refused;
    }
  }
  // All but: versions made by and needed, the number of disks.
  EXPECT_GE(refused, static_cast<int>(directory.size()) - 46 - 22 - 12);
}

}  // namespace
}  // namespace tessera::format
