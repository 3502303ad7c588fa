#include "tessera/format/sidecar_index.h"

#include <algorithm>
#include <array>
#include <limits>

#include "tessera/format/sidecar.h"

namespace tessera::format {
namespace {

constexpr size_t longest_number = 9;  // bytes: seven bits each of 63
constexpr uint64_t most_dims = 64;
constexpr uint64_t object_kind = 0;
constexpr uint64_t tensor_kind = 1;
constexpr uint64_t name_element = 0;
constexpr uint64_t index_element = 1;

Error bad(std::string what) { return Error({.code = Code::corrupt, .what = "its index: " + what, .file = sidecar_file}); }

// Numbers from 0 to 2^63 - 1, seven bits a byte, the least first, in as few bytes as can be.
class NumberWriter {
 public:
  void number(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<std::byte>(value | 0x80));
    bytes_.push_back(static_cast<std::byte>(value));
  }
  void number(int64_t value) {
    if (value < 0) throw Error({.code = Code::invalid_argument, .what = "a negative number cannot be indexed"});
    number(static_cast<uint64_t>(value));
  }
  void text(std::string_view value) {
    number(uint64_t{value.size()});
    const auto raw = as_bytes(value);
    bytes_.insert(bytes_.end(), raw.begin(), raw.end());
  }
  size_t size() const { return bytes_.size(); }
  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
};

class NumberReader {
 public:
  explicit NumberReader(std::span<const std::byte> bytes) : left_(bytes) {}
  int64_t number() {
    uint64_t value = 0;
    for (size_t i = 0; i < longest_number; ++i) {
      if (i >= left_.size()) throw bad("a record ends early");
      const auto byte = static_cast<uint64_t>(left_[i]);
      value |= (byte & 0x7f) << (7 * i);
      if (byte >= 0x80) continue;
      if (byte == 0 && i > 0) throw bad("a number in more bytes than it needs");
      left_ = left_.subspan(i + 1);
      return static_cast<int64_t>(value);
    }
    throw bad("a number beyond 63 bits");
  }
  // A count of things that take at least `each_bytes` of what is left, so that it may size an allocation.
  size_t count(size_t each_bytes) {
    const auto count = static_cast<uint64_t>(number());
    if (count > left_.size() / each_bytes) throw bad("a record counts more than it holds");
    return count;
  }
  std::string_view text() {
    const size_t size = count(1);
    const auto value = as_text(left_.first(size));
    left_ = left_.subspan(size);
    return value;
  }
  bool empty() const { return left_.empty(); }
  size_t left() const { return left_.size(); }

 private:
  std::span<const std::byte> left_;
};

// ---- Writing

// The number of each file by its name. Chunk k of one tensor mostly lies in the file of chunk k of the tensor before it.
class FileNumbers {
 public:
  explicit FileNumbers(std::span<const std::string> files) : files_(files) {}
  uint64_t of(const std::string& file, size_t chunk) {
    if (chunk >= last_.size()) last_.resize(chunk + 1, 0);
    size_t& last = last_[chunk];
    if (last < files_.size() && files_[last] == file) return last;
    const auto found = std::ranges::lower_bound(files_, file);
    if (found == files_.end() || *found != file)
      throw Error({.code = Code::invalid_argument, .what = "'" + file + "' is none of the checkpoint's files"});
    return last = static_cast<size_t>(found - files_.begin());
  }

 private:
  std::span<const std::string> files_;
  std::vector<size_t> last_;
};

void put_extent(NumberWriter& out, const Extent& at, uint64_t file) {
  out.number(file);
  out.number(at.offset_bytes);
  out.number(at.length_bytes);
  out.number(uint64_t{at.transforms.size()});
  for (const std::string& transform : at.transforms) out.text(transform);
}

void put_path(NumberWriter& out, const KeyPath& path) {
  out.number(uint64_t{path.size()});
  for (const PathElement& element : path) {
    if (const auto* index = std::get_if<int64_t>(&element)) {
      out.number(index_element);
      out.number(*index);
    } else {
      out.number(name_element);
      out.text(std::get<std::string>(element));
    }
  }
}

void put_record(NumberWriter& out, const std::string& key, const Entry& entry, FileNumbers& files) {
  out.text(key);
  put_path(out, entry.path.empty() ? KeyPath{key} : entry.path);
  if (const auto* object = std::get_if<ObjectEntry>(&entry.is)) {
    out.number(object_kind);
    return put_extent(out, object->at, files.of(object->at.file, 0));
  }
  const auto& tensor = std::get<TensorEntry>(entry.is);
  out.number(tensor_kind);
  out.text(name(tensor.dtype));
  out.number(uint64_t{tensor.sizes.size()});
  for (const int64_t size : tensor.sizes) out.number(size);
  out.number(uint64_t{tensor.chunks.size()});
  for (size_t i = 0; i < tensor.chunks.size(); ++i) {
    const Chunk& chunk = tensor.chunks[i];
    for (const int64_t offset : chunk.box.offsets) out.number(offset);
    for (const int64_t size : chunk.box.sizes) out.number(size);
    put_extent(out, chunk.at, files.of(chunk.at.file, i));
  }
}

// ---- Reading

// One record from behind its key on.
class EntryReader {
 public:
  EntryReader(NumberReader& in, std::span<const std::string> files)
      : in_(in), files_(files), name_bytes_left_(least_name_bytes + name_bytes_each * in.left()) {}

  Entry entry() {
    Entry entry;
    entry.path = path();
    const int64_t kind = in_.number();
    if (kind == object_kind) entry.is = ObjectEntry{extent()};
    else if (kind == tensor_kind) entry.is = tensor();
    else throw bad("an entry that is neither tensor nor object");
    if (!in_.empty()) throw bad("bytes after the end of a record");
    return entry;
  }

 private:
  // A short record may name long files often. So many bytes of names it may stand for, and so many for each of its own: far above ours.
  static constexpr size_t least_name_bytes = size_t{1} << 20;
  static constexpr size_t name_bytes_each = 64;

  KeyPath path() {
    KeyPath path(in_.count(2));
    if (path.empty()) throw bad("an empty path");
    for (PathElement& element : path) {
      const int64_t kind = in_.number();
      if (kind == name_element) element = std::string(in_.text());
      else if (kind == index_element) element = in_.number();
      else throw bad("a path of what is neither name nor index");
    }
    return path;
  }
  TensorEntry tensor() {
    const auto dtype = dtype_named(in_.text());
    if (!dtype) throw bad("a dtype that there is not");
    const size_t dims = in_.count(1);
    if (dims > most_dims) throw bad("a tensor of more than 64 dimensions");
    TensorEntry tensor{*dtype, sizes(dims), {}};
    tensor.chunks.resize(in_.count(2 * dims + 4));
    for (Chunk& chunk : tensor.chunks) {
      chunk.box.offsets = sizes(dims);
      chunk.box.sizes = sizes(dims);
      chunk.at = extent();
    }
    return tensor;
  }
  Sizes sizes(size_t dims) {
    Sizes sizes(dims);
    for (int64_t& size : sizes) size = in_.number();
    return sizes;
  }
  Extent extent() {
    Extent at;
    const auto file = static_cast<uint64_t>(in_.number());
    if (file >= files_.size()) throw bad("a file that there is not");
    if (files_[file].size() > name_bytes_left_) throw bad("long names, too often");
    name_bytes_left_ -= files_[file].size();
    at.file = files_[file];
    at.offset_bytes = in_.number();
    at.length_bytes = in_.number();
    at.transforms.resize(in_.count(1));
    for (std::string& transform : at.transforms) transform = in_.text();
    return at;
  }

  NumberReader& in_;
  std::span<const std::string> files_;
  size_t name_bytes_left_;
};

// The records, each between two of the offsets before them.
class Records {
 public:
  explicit Records(const ByteSource& index) : index_(index), count_(number_at(0)) {
    const int64_t offsets_bytes = index.size_bytes() - 8;
    if (count_ < 0 || count_ >= offsets_bytes / 8) throw bad("more keys than it holds");
    records_at_ = 8 + 8 * (count_ + 1);
  }
  int64_t count() const { return count_; }
  Bytes record(int64_t i) const { return begin_of(i, std::numeric_limits<int64_t>::max()); }
  // At most the first so many bytes of it.
  Bytes begin_of(int64_t i, int64_t most_bytes) const {
    const int64_t begin = number_at(8 + 8 * i), end = number_at(8 + 8 * (i + 1));
    if (begin < 0 || begin > end || end > index_.size_bytes() - records_at_) throw bad("records that are not in order");
    Bytes bytes(static_cast<size_t>(std::min(end - begin, most_bytes)));
    index_.read(records_at_ + begin, bytes);
    return bytes;
  }

 private:
  int64_t number_at(int64_t offset_bytes) const {
    std::array<std::byte, 8> bytes{};
    index_.read(offset_bytes, bytes);
    return ByteReader(bytes).get<int64_t>();
  }
  const ByteSource& index_;
  int64_t count_;
  int64_t records_at_ = 0;
};

// How the key of a record stands to `key`.
std::strong_ordering compare(const Records& records, int64_t i, const std::string& key) {
  const Bytes begin = records.begin_of(i, static_cast<int64_t>(longest_number + key.size()));
  NumberReader in(begin);
  const auto size = static_cast<uint64_t>(in.number());
  const std::string_view rest = as_text(std::span(begin)).substr(begin.size() - in.left());
  const size_t common = std::min<uint64_t>(size, key.size());
  if (rest.size() < common) throw bad("a record ends early");
  const auto order = rest.substr(0, common) <=> std::string_view(key).substr(0, common);
  return order != 0 ? order : size <=> uint64_t{key.size()};
}

}  // namespace

Bytes encode_index(const Manifest& manifest, std::span<const std::string> files) {
  ByteWriter out;
  NumberWriter records;
  FileNumbers numbers(files);
  out.put(static_cast<int64_t>(manifest.entries.size()));
  for (const auto& [key, entry] : manifest.entries) {
    out.put(static_cast<int64_t>(records.size()));
    put_record(records, key, entry, numbers);
  }
  out.put(static_cast<int64_t>(records.size()));
  out.put_raw(records.take());
  return out.take();
}

std::optional<Entry> find_in_index(const ByteSource& index, const std::string& key, std::span<const std::string> files) {
  const Records records(index);
  int64_t first = 0;
  for (int64_t end = records.count(); first < end;) {
    const int64_t middle = first + (end - first) / 2;
    const auto order = compare(records, middle, key);
    if (order == 0) {
      const Bytes record = records.record(middle);
      NumberReader in(record);
      in.text();
      return EntryReader(in, files).entry();
    }
    if (order < 0) first = middle + 1;
    else end = middle;
  }
  return std::nullopt;
}

}  // namespace tessera::format
