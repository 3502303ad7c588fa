// Zip directories: records lie apart from each other inside the archive, reading and checking agree, and their layout can be made again.
#include "tessera/format/zip.h"

#include <algorithm>
#include <set>

#include "fuzz/properties.h"
#include "tessera/base/digest.h"

namespace tessera::fuzz {
namespace {

using format::ZipLayout;
using format::ZipReader;
using format::ZipRecord;

struct Record {
  std::string name;
  Bytes content;
};

// The records that can be read, in the order of the directory.
std::vector<Record> read_all(const ZipReader& zip, int64_t size_bytes) {
  std::vector<Record> records;
  std::vector<std::pair<int64_t, int64_t>> places;
  int64_t total = 0;
  for (const ZipRecord& record : zip.records()) {
    require(zip.find(record.name) != nullptr, "a record is found by its name");
    Bytes content;
    const bool read = accepted([&] { content = zip.read(record, size_bytes); });
    require(read == accepted([&] { zip.check(record); }), "what can be read can be checked, and the other way round");
    if (!read) continue;
    const int64_t at = zip.data_offset(record);
    require(static_cast<int64_t>(content.size()) == record.size_bytes, "a record is as long as it says");
    require(inside(at, content.size(), size_bytes) && record.header_offset_bytes < at, "a record lies inside, after its header");
    require(crc32(content) == record.crc, "a record's CRC holds");
    places.emplace_back(record.header_offset_bytes, at + record.size_bytes);
    total += record.size_bytes;
    records.push_back({record.name, std::move(content)});
  }
  std::ranges::sort(places);
  for (size_t i = 1; i < places.size(); ++i) require(places[i - 1].second <= places[i].first, "no byte belongs to two records");
  require(total <= size_bytes, "records hold no more than the archive");
  return records;
}

Bytes written(const std::vector<Record>& records) {
  ZipLayout layout;
  Bytes out;
  for (const Record& record : records) {
    layout.add(record.name, static_cast<int64_t>(record.content.size()), crc32(record.content), record.content.size() % 2 == 0);
    out.insert(out.end(), layout.header().begin(), layout.header().end());
    require(layout.data_offset() == static_cast<int64_t>(out.size()), "data begins where the layout says");
    out.insert(out.end(), record.content.begin(), record.content.end());
    require(layout.end() == static_cast<int64_t>(out.size()), "and ends there");
  }
  const Bytes directory = layout.directory();
  out.insert(out.end(), directory.begin(), directory.end());
  return out;
}

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  using namespace tessera::fuzz;
  const MemorySource source(bytes_of(data, size), "fuzz");
  std::optional<format::ZipReader> zip;
  if (!accepted([&] { zip.emplace(source); })) return 0;
  const std::vector<Record> records = read_all(*zip, source.size_bytes());
  const Bytes again = written(records);
  const MemorySource second(again, "again");
  const std::vector<Record> reread = read_all(format::ZipReader(second), second.size_bytes());
  const auto same = [](const Record& a, const Record& b) { return a.name == b.name && a.content == b.content; };
  require(std::ranges::equal(records, reread, same), "an archive laid out anew holds the same");
  return 0;
}
