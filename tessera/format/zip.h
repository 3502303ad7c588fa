// tessera/format/zip.h: the zip archive that an item is: stored records, no compression.
// Source      PKWARE's APPNOTE 6.3.10 (sections 4.3, 4.4, 4.5.3), and what torch 2.0 to 2.13 write.
// Errors      Error(corrupt) for what breaks the format, Error(unsupported) for compression, encryption and several disks; each with
//             the byte's offset. Nothing outside the source is read; nothing is allocated from an unchecked number.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tessera/base/byte_source.h"

namespace tessera::format {

struct ZipRecord {
  std::string name;
  int64_t header_offset_bytes = 0;
  int64_t size_bytes = 0;
  uint32_t crc = 0;
  uint16_t flags = 0;
};

// The directory of an archive. Borrows the source.
class ZipReader {
 public:
  explicit ZipReader(const ByteSource& source);
  // Null if there is none of this name.
  const ZipRecord* find(const std::string& name) const;
  const std::vector<ZipRecord>& records() const { return records_; }
  // Where the record's data begins: after its local header, which must agree with the directory.
  int64_t data_offset(const ZipRecord& record) const;
  // The record's bytes, their CRC checked. Error(limit) if it has more than `most_bytes`.
  Bytes read(const ZipRecord& record, int64_t most_bytes) const;
  // Reads the record in pieces, to check its CRC.
  void check(const ZipRecord& record) const;

 private:
  void check_crc(const ZipRecord& record, uint32_t crc, int64_t at) const;
  const ByteSource& source_;
  std::vector<ZipRecord> records_;        // as the directory has them
  std::vector<int64_t> header_offsets_;   // ascending, and then the directory's own
};

// The layout of an archive to be written, by arithmetic: records in the order they are added, each with known size and CRC.
class ZipLayout {
 public:
  // `aligned`: the data starts at a multiple of 64 in the archive, as torch has it for tensor data.
  void add(std::string name, int64_t size_bytes, uint32_t crc, bool aligned);
  // The last record's local header: it belongs where the archive had ended before.
  const Bytes& header() const { return header_; }
  // Where the last record's data begins and ends.
  int64_t data_offset() const { return data_offset_; }
  int64_t end() const { return end_; }
  // The central directory and end records: the rest of the archive.
  Bytes directory() const;
  // Where the last record's CRC stands in its header(), and in the directory().
  static constexpr int64_t crc_in_header_bytes = 14;
  int64_t crc_in_directory_bytes() const;

 private:
  std::vector<ZipRecord> records_;
  Bytes header_;
  int64_t data_offset_ = 0;
  int64_t end_ = 0;
};

}  // namespace tessera::format
