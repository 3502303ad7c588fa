#include "tessera/format/zip.h"

#include <algorithm>
#include <optional>
#include <set>

#include "tessera/base/digest.h"

namespace tessera::format {
namespace {

constexpr uint32_t local_magic = 0x04034b50, central_magic = 0x02014b50, end_magic = 0x06054b50;
constexpr uint32_t zip64_end_magic = 0x06064b50, zip64_locator_magic = 0x07064b50;
constexpr int64_t local_bytes = 30, central_bytes = 46, end_bytes = 22, zip64_end_bytes = 56, zip64_locator_bytes = 20;
constexpr uint32_t full32 = 0xffffffff;
constexpr uint16_t full16 = 0xffff;
constexpr uint16_t flag_encrypted = 1, flag_descriptor = 8, flag_utf8 = 0x800;
constexpr uint16_t zip64_extra = 0x0001, padding_extra = 0x4246;  // "FB", as torch names its padding
constexpr uint16_t version_zip64 = 45;
constexpr uint16_t most_version = 63;  // of APPNOTE 6.3
constexpr int64_t alignment_bytes = 64;
constexpr int64_t descriptor_bytes = 16;                      // at least
constexpr uint64_t most_directory_bytes = uint64_t{64} << 20;  // half a million records; torch has one for each storage
constexpr int64_t piece_bytes = int64_t{1} << 20;

Bytes read_some(const ByteSource& source, int64_t offset_bytes, int64_t count) {
  Bytes bytes(static_cast<size_t>(count));
  source.read(offset_bytes, bytes);
  return bytes;
}

// The end record: the last place of its magic whose comment ends with the archive.
int64_t find_end(const ByteSource& source, Bytes& tail) {
  const int64_t size = source.size_bytes();
  const int64_t reach = std::min<int64_t>(size, end_bytes + full16);
  // Nearly all archives have no comment: look at the last bytes first.
  for (const int64_t span : {std::min<int64_t>(reach, 4096), reach}) {
    tail = read_some(source, size - span, span);
    for (int64_t at = span - end_bytes; at >= 0; --at) {
      ByteReader in{std::span(tail).subspan(static_cast<size_t>(at))};
      if (in.get<uint32_t>() != end_magic) continue;
      in.get_raw(16);
      if (in.get<uint16_t>() == span - at - end_bytes) return size - span + at;
    }
  }
  throw corrupt_at(source, 0, "no end record of a zip archive");
}

struct End {
  uint64_t entries = 0;
  uint64_t directory_bytes = 0;
  uint64_t directory_at = 0;
  int64_t limit = 0;  // the directory ends here at the latest
};

End read_end(const ByteSource& source) {
  Bytes tail;
  const int64_t at = find_end(source, tail);
  ByteReader in{std::span(tail).subspan(static_cast<size_t>(at - (source.size_bytes() - static_cast<int64_t>(tail.size()))))};
  in.get<uint32_t>();
  const auto disk = in.get<uint16_t>(), directory_disk = in.get<uint16_t>(), entries_here = in.get<uint16_t>(),
             entries = in.get<uint16_t>();
  const auto directory_bytes = in.get<uint32_t>(), directory_at = in.get<uint32_t>();
  End end{entries, directory_bytes, directory_at, at};
  if (disk != directory_disk || entries_here != entries || (disk != 0 && disk != full16))
    throw Error({.code = Code::unsupported,
                 .what = "a zip archive of several disks",
                 .file = source.file(),
                 .offset_bytes = source.origin_bytes() + at});
  const bool full = entries == full16 || directory_bytes == full32 || directory_at == full32;
  std::optional<ByteReader> locator;
  Bytes locator_bytes;
  if (at >= zip64_locator_bytes) {
    locator_bytes = read_some(source, at - zip64_locator_bytes, zip64_locator_bytes);
    ByteReader reader(locator_bytes);
    if (reader.get<uint32_t>() == zip64_locator_magic) locator = reader;
  }
  if (!locator) {
    if (full) throw corrupt_at(source, at, "a zip64 archive without its end record");
    return end;
  }
  locator->get<uint32_t>();
  const auto zip64_at = locator->get<uint64_t>();
  if (zip64_at > static_cast<uint64_t>(at) || !inside(static_cast<int64_t>(zip64_at), zip64_end_bytes, at - zip64_locator_bytes)) {
    throw corrupt_at(source, at, "a zip64 end record outside the archive");
  }
  const Bytes record = read_some(source, static_cast<int64_t>(zip64_at), zip64_end_bytes);
  ByteReader wide(record);
  if (wide.get<uint32_t>() != zip64_end_magic)
    throw corrupt_at(source, static_cast<int64_t>(zip64_at), "no zip64 end record where the locator says");
  // It ends where the locator begins.
  if (wide.get<uint64_t>() != static_cast<uint64_t>(at - zip64_locator_bytes) - zip64_at - 12) {
    throw corrupt_at(source, static_cast<int64_t>(zip64_at), "a zip64 end record of the wrong length");
  }
  wide.get_raw(2 + 2);
  if (wide.get<uint32_t>() != 0 || wide.get<uint32_t>() != 0)
    throw corrupt_at(source, static_cast<int64_t>(zip64_at), "a zip archive of several disks");
  End large;
  const auto here = wide.get<uint64_t>();
  large.entries = wide.get<uint64_t>();
  large.directory_bytes = wide.get<uint64_t>();
  large.directory_at = wide.get<uint64_t>();
  large.limit = static_cast<int64_t>(zip64_at);
  const bool agrees = here == large.entries && (entries == full16 || entries == large.entries) &&
                      (directory_bytes == full32 || directory_bytes == large.directory_bytes) &&
                      (directory_at == full32 || directory_at == large.directory_at);
  if (!agrees) throw corrupt_at(source, at, "two end records that disagree");
  return large;
}

bool is_safe(const std::string& name) {
  if (name.empty() || name.front() == '/' || name.find('\0') != std::string::npos || name.find('\\') != std::string::npos) return false;
  return name != ".." && !name.starts_with("../") && !name.ends_with("/..") && name.find("/../") == std::string::npos;
}

// The 64-bit numbers that stand in for full 32-bit fields, in the order of the fields.
class Zip64Extra {
 public:
  Zip64Extra(const ByteSource& source, int64_t at, std::span<const std::byte> extra) : source_(source), at_(at) {
    ByteReader in(extra);
    while (in.left() >= 4) {
      const auto id = in.get<uint16_t>();
      const auto size = in.get<uint16_t>();
      if (size > in.left()) throw corrupt_at(source, at, "an extra field that runs past its header");
      const auto body = in.get_raw(size);
      if (id == zip64_extra) numbers_ = body;
    }
  }
  uint64_t widen(uint32_t field) {
    if (field != full32) return field;
    if (numbers_.size() < 8) throw corrupt_at(source_, at_, "a zip64 field without its number");
    uint64_t value;
    std::memcpy(&value, numbers_.data(), sizeof value);
    numbers_ = numbers_.subspan(8);
    return value;
  }

 private:
  const ByteSource& source_;
  const int64_t at_;
  std::span<const std::byte> numbers_;
};

// One entry of the directory, checked by itself.
ZipRecord read_entry(const ByteSource& source, ByteReader& in, int64_t at, int64_t directory_at) {
  if (in.left() < static_cast<size_t>(central_bytes) || in.get<uint32_t>() != central_magic)
    throw corrupt_at(source, at, "a damaged zip directory");
  in.get<uint16_t>();  // made by
  const int needed = in.get<uint16_t>() & 0xff;
  ZipRecord record;
  record.flags = in.get<uint16_t>();
  const auto method = in.get<uint16_t>();
  in.get_raw(4);
  record.crc = in.get<uint32_t>();
  const auto packed = in.get<uint32_t>(), size = in.get<uint32_t>();
  const auto name_bytes = in.get<uint16_t>(), extra_bytes = in.get<uint16_t>(), comment_bytes = in.get<uint16_t>(),
             disk = in.get<uint16_t>();
  in.get_raw(6);
  const auto header_at = in.get<uint32_t>();
  if (in.left() < size_t{name_bytes} + extra_bytes + comment_bytes) throw corrupt_at(source, at, "a damaged zip directory");
  record.name = as_text(in.get_raw(name_bytes));
  Zip64Extra extra(source, at, in.get_raw(extra_bytes));
  in.get_raw(comment_bytes);
  const uint64_t wide_size = extra.widen(size), wide_packed = extra.widen(packed), wide_header = extra.widen(header_at);
  const auto unsupported = [&](const char* what) {
    return Error({.code = Code::unsupported, .what = what, .file = source.file(), .offset_bytes = source.origin_bytes() + at});
  };
  if (needed > most_version) throw unsupported("a zip record of a newer kind");
  if (record.flags & flag_encrypted) throw unsupported("an encrypted zip record");
  if (method != 0) throw unsupported("a compressed zip record");
  if (disk != 0) throw unsupported("a zip archive of several disks");
  if (!is_safe(record.name)) throw corrupt_at(source, at, "a zip record with an unsafe name");
  if (wide_packed != wide_size) throw corrupt_at(source, at, "a stored zip record of two sizes");
  if (wide_header > static_cast<uint64_t>(directory_at) || !inside(static_cast<int64_t>(wide_header), wide_size, directory_at)) {
    throw corrupt_at(source, at, "a zip record outside its archive");
  }
  record.header_offset_bytes = static_cast<int64_t>(wide_header);
  record.size_bytes = static_cast<int64_t>(wide_size);
  return record;
}

}  // namespace

ZipReader::ZipReader(const ByteSource& source) : source_(source) {
  if (source.size_bytes() < end_bytes) throw corrupt_at(source, 0, "too short for a zip archive");
  const End end = read_end(source);
  if (end.directory_at > static_cast<uint64_t>(end.limit) || end.directory_bytes != static_cast<uint64_t>(end.limit) - end.directory_at) {
    throw corrupt_at(source, end.limit, "a zip directory that is not where its end record says");
  }
  if (end.directory_bytes > most_directory_bytes) {
    throw Error({.code = Code::limit,
                 .what = "a zip directory of too many records",
                 .file = source.file(),
                 .offset_bytes = source.origin_bytes() + end.limit});
  }
  if (end.entries > end.directory_bytes / central_bytes)
    throw corrupt_at(source, end.limit, "a zip directory of more entries than it has room for");
  const auto directory_at = static_cast<int64_t>(end.directory_at);
  const Bytes directory = read_some(source, directory_at, static_cast<int64_t>(end.directory_bytes));
  ByteReader in(directory);
  std::set<std::string_view> names;
  records_.reserve(end.entries);
  for (uint64_t i = 0; i < end.entries; ++i) {
    const int64_t at = directory_at + static_cast<int64_t>(directory.size() - in.left());
    records_.push_back(read_entry(source, in, at, directory_at));
    header_offsets_.push_back(records_.back().header_offset_bytes);
    if (!names.insert(records_.back().name).second) throw corrupt_at(source, at, "two zip records of one name");
  }
  if (!in.empty()) throw corrupt_at(source, directory_at, "a zip directory longer than its entries");
  header_offsets_.push_back(directory_at);
  std::ranges::sort(header_offsets_);
  if (std::ranges::adjacent_find(header_offsets_) != header_offsets_.end())
    throw corrupt_at(source, directory_at, "two zip records in one place");
  if (header_offsets_.front() != 0) throw corrupt_at(source, 0, "a zip archive that does not begin with a record");
}

const ZipRecord* ZipReader::find(const std::string& name) const {
  const auto found = std::ranges::find(records_, name, &ZipRecord::name);
  return found == records_.end() ? nullptr : &*found;
}

int64_t ZipReader::data_offset(const ZipRecord& record) const {
  const int64_t at = record.header_offset_bytes;
  const auto differs = [&] { return corrupt_at(source_, at, "a zip record whose header differs from the directory"); };
  if (!inside(at, local_bytes, header_offsets_.back())) throw differs();
  const Bytes header = read_some(source_, at, local_bytes);
  ByteReader in(header);
  if (in.get<uint32_t>() != local_magic) throw differs();
  in.get<uint16_t>();
  const auto flags = in.get<uint16_t>(), method = in.get<uint16_t>();
  in.get_raw(4);
  const auto crc = in.get<uint32_t>(), packed = in.get<uint32_t>(), size = in.get<uint32_t>();
  const auto name_bytes = in.get<uint16_t>(), extra_bytes = in.get<uint16_t>();
  const int64_t data_at = at + local_bytes + name_bytes + extra_bytes;
  // Records do not overlap: each ends before the next one's header, or the directory, begins.
  const int64_t next = *std::ranges::upper_bound(header_offsets_, at);
  const int64_t after = flags & flag_descriptor ? descriptor_bytes : 0;
  if (flags != record.flags || method != 0 || data_at > next || record.size_bytes > next - data_at - after) throw differs();
  const Bytes rest = read_some(source_, at + local_bytes, name_bytes + extra_bytes);
  if (as_text(std::span(rest).first(name_bytes)) != record.name) throw differs();
  if (!(flags & flag_descriptor)) {
    Zip64Extra extra(source_, at, std::span(rest).subspan(name_bytes));
    const auto wide_size = extra.widen(size), wide_packed = extra.widen(packed);
    if (crc != record.crc || wide_size != static_cast<uint64_t>(record.size_bytes) || wide_packed != wide_size) throw differs();
  }
  return data_at;
}

Bytes ZipReader::read(const ZipRecord& record, int64_t most_bytes) const {
  if (record.size_bytes > most_bytes) {
    throw Error({.code = Code::limit,
                 .what = "the record '" + record.name + "' is too large",
                 .file = source_.file(),
                 .offset_bytes = source_.origin_bytes() + record.header_offset_bytes});
  }
  const int64_t at = data_offset(record);
  Bytes bytes = read_some(source_, at, record.size_bytes);
  check_crc(record, crc32(bytes), at);
  return bytes;
}

void ZipReader::check(const ZipRecord& record) const {
  const int64_t at = data_offset(record);
  uint32_t crc = 0;
  for (int64_t done = 0; done < record.size_bytes; done += piece_bytes) {
    crc = crc32(read_some(source_, at + done, std::min(piece_bytes, record.size_bytes - done)), crc);
  }
  check_crc(record, crc, at);
}

void ZipReader::check_crc(const ZipRecord& record, uint32_t crc, int64_t at) const {
  if (crc != record.crc) throw corrupt_at(source_, at, "the CRC-32 of '" + record.name + "' differs from the archive's");
}

void ZipLayout::add(std::string name, int64_t size_bytes, uint32_t crc, bool aligned) {
  const bool large = size_bytes >= full32;
  const auto name_bytes = static_cast<int64_t>(name.size());
  const int64_t header_at = end_;
  ByteWriter extra;
  if (large) {
    extra.put(zip64_extra);
    extra.put<uint16_t>(16);
    extra.put(size_bytes);
    extra.put(size_bytes);
  }
  if (aligned) {
    const int64_t unpadded = header_at + local_bytes + name_bytes + static_cast<int64_t>(extra.size()) + 4;
    const auto padding = static_cast<uint16_t>((alignment_bytes - unpadded % alignment_bytes) % alignment_bytes);
    extra.put(padding_extra);
    extra.put(padding);
    for (int i = 0; i < padding; ++i) extra.put('Z');
  }
  const Bytes extra_bytes = extra.take();
  ByteWriter header;
  header.put(local_magic);
  header.put<uint16_t>(large ? version_zip64 : 0);
  header.put(flag_utf8);
  header.put<uint16_t>(0);  // stored
  header.put<uint32_t>(0);  // no time, no date: the same state gives the same bytes
  header.put(crc);
  for (int i = 0; i < 2; ++i) header.put<uint32_t>(large ? full32 : static_cast<uint32_t>(size_bytes));
  header.put(static_cast<uint16_t>(name_bytes));
  header.put(static_cast<uint16_t>(extra_bytes.size()));
  header.put_raw(as_bytes(name));
  header.put_raw(extra_bytes);
  header_ = header.take();
  data_offset_ = header_at + static_cast<int64_t>(header_.size());
  end_ = data_offset_ + size_bytes;
  records_.push_back({std::move(name), header_at, size_bytes, crc, flag_utf8});
}

namespace {

bool is_large(const ZipRecord& record) { return record.size_bytes >= full32; }
bool is_far(const ZipRecord& record) { return record.header_offset_bytes >= full32; }
// How many numbers of a record's directory entry need 64 bits.
int wide_numbers(const ZipRecord& record) { return (is_large(record) ? 2 : 0) + (is_far(record) ? 1 : 0); }

}  // namespace

int64_t ZipLayout::crc_in_directory_bytes() const {
  int64_t at = 16;  // in the last entry
  for (size_t r = 0; r + 1 < records_.size(); ++r) {
    const int wide = wide_numbers(records_[r]);
    at += central_bytes + static_cast<int64_t>(records_[r].name.size()) + (wide ? 4 + 8 * wide : 0);
  }
  return at;
}

Bytes ZipLayout::directory() const {
  ByteWriter out;
  for (const ZipRecord& record : records_) {
    const bool large = is_large(record);
    const bool far = is_far(record);
    out.put(central_magic);
    for (int i = 0; i < 2; ++i) out.put<uint16_t>(large || far ? version_zip64 : 0);  // made by, needed
    out.put(record.flags);
    out.put<uint16_t>(0);
    out.put<uint32_t>(0);
    out.put(record.crc);
    for (int i = 0; i < 2; ++i) out.put<uint32_t>(large ? full32 : static_cast<uint32_t>(record.size_bytes));
    out.put(static_cast<uint16_t>(record.name.size()));
    const int wide = wide_numbers(record);
    out.put(static_cast<uint16_t>(wide ? 4 + 8 * wide : 0));
    for (int i = 0; i < 3; ++i) out.put<uint16_t>(0);  // comment, disk, internal attributes
    out.put<uint32_t>(0);
    out.put(far ? full32 : static_cast<uint32_t>(record.header_offset_bytes));
    out.put_raw(as_bytes(record.name));
    if (wide) {
      out.put(zip64_extra);
      out.put(static_cast<uint16_t>(8 * wide));
      for (int i = 0; large && i < 2; ++i) out.put(record.size_bytes);
      if (far) out.put(record.header_offset_bytes);
    }
  }
  const auto directory_bytes = static_cast<int64_t>(out.size());
  const bool wide = end_ >= full32 || records_.size() >= full16;
  if (wide) {
    out.put(zip64_end_magic);
    out.put<uint64_t>(zip64_end_bytes - 12);
    for (int i = 0; i < 2; ++i) out.put(version_zip64);
    for (int i = 0; i < 2; ++i) out.put<uint32_t>(0);
    for (int i = 0; i < 2; ++i) out.put<uint64_t>(records_.size());
    out.put(directory_bytes);
    out.put(end_);
    out.put(zip64_locator_magic);
    out.put<uint32_t>(0);
    out.put<int64_t>(end_ + directory_bytes);
    out.put<uint32_t>(1);
  }
  out.put(end_magic);
  for (int i = 0; i < 2; ++i) out.put<uint16_t>(0);
  for (int i = 0; i < 2; ++i) out.put(records_.size() >= full16 ? full16 : static_cast<uint16_t>(records_.size()));
  out.put(static_cast<uint32_t>(directory_bytes));
  out.put(end_ >= full32 ? full32 : static_cast<uint32_t>(end_));
  out.put<uint16_t>(0);
  return out.take();
}

}  // namespace tessera::format
