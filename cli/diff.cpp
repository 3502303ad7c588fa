#include "cli/diff.h"

#include <fmt/format.h>

#include <cstring>

#include "cli/places.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/value_json.h"

namespace tessera::cli {
namespace {

constexpr size_t value_columns = 40;

std::string shown(const Value& value) { return shortened(printable(to_string(value)), value_columns); }

std::string shown(const NamedCheckpoint& checkpoint, const std::string& key, const Entry& entry) {
  if (const auto* tensor = std::get_if<TensorEntry>(&entry.is)) return fmt::format("{} {}", name(tensor->dtype), to_string(tensor->sizes));
  return shown(checkpoint.object(key));
}

// How the bytes of two tensors of one dtype and shape differ.
struct ByteDifference {
  int64_t elements = 0;
  Sizes first;    // its index
  std::string a;  // its bytes in memory order
  std::string b;
};

// The index of element `at` of a row-major box, in the tensor.
Sizes index_in(const Box& box, int64_t at) {
  Sizes index = box.offsets;
  for (size_t d = box.sizes.size(); d > 0; --d) {
    index[d - 1] += at % box.sizes[d - 1];
    at /= box.sizes[d - 1];
  }
  return index;
}

void compare_piece(const Box& box, size_t each, std::span<const std::byte> a, std::span<const std::byte> b, ByteDifference& difference) {
  if (std::memcmp(a.data(), b.data(), a.size()) == 0) return;
  for (size_t at = 0; at < a.size(); at += each) {
    if (std::memcmp(a.data() + at, b.data() + at, each) == 0) continue;
    if (difference.elements++ > 0) continue;
    difference.first = index_in(box, static_cast<int64_t>(at / each));
    difference.a = hex(a.subspan(at, each));
    difference.b = hex(b.subspan(at, each));
  }
}

ByteDifference compare_bytes(const NamedCheckpoint& a, const NamedCheckpoint& b, const std::string& key, const TensorEntry& tensor) {
  PieceBuffer buffer_a;
  PieceBuffer buffer_b;
  TensorReader reader_a = a.reader(key);
  TensorReader reader_b = b.reader(key);
  ByteDifference difference;
  for_each_piece(tensor.sizes, piece_bytes / element_bytes(tensor.dtype), [&](const Box& box) {
    const auto bytes_a = a.naming([&] { return buffer_a.read(reader_a, box, tensor.dtype); });
    const auto bytes_b = b.naming([&] { return buffer_b.read(reader_b, box, tensor.dtype); });
    compare_piece(box, static_cast<size_t>(element_bytes(tensor.dtype)), bytes_a, bytes_b, difference);
  });
  return difference;
}

void compare_tensors(const NamedCheckpoint& a, const NamedCheckpoint& b, const std::string& key, const TensorEntry& in_a,
                     const TensorEntry& in_b, std::vector<Difference>& found) {
  if (in_a.dtype != in_b.dtype) found.push_back({key, "dtype", std::string(name(in_a.dtype)), std::string(name(in_b.dtype))});
  if (in_a.sizes != in_b.sizes) found.push_back({key, "shape", to_string(in_a.sizes), to_string(in_b.sizes)});
  if (in_a.dtype != in_b.dtype || in_a.sizes != in_b.sizes) return;
  const ByteDifference bytes = compare_bytes(a, b, key, in_a);
  if (bytes.elements == 0) return;
  const std::string what = fmt::format("bytes ({} of {} elements)", bytes.elements, volume(in_a.sizes));
  const std::string at = to_string(bytes.first) + " = 0x";
  found.push_back({key, what, at + bytes.a, at + bytes.b});
}

void compare_entries(const NamedCheckpoint& a, const NamedCheckpoint& b, const std::string& key, const Entry& in_a, const Entry& in_b,
                     std::vector<Difference>& found) {
  if (in_a.is.index() != in_b.is.index()) {
    found.push_back({key, "kind", shown(a, key, in_a), shown(b, key, in_b)});
  } else if (const auto* tensor = std::get_if<TensorEntry>(&in_a.is)) {
    compare_tensors(a, b, key, *tensor, std::get<TensorEntry>(in_b.is), found);
  } else {
    const Value value_a = a.object(key);
    const Value value_b = b.object(key);
    if (!(value_a == value_b)) found.push_back({key, "value", shown(value_a), shown(value_b)});
  }
}

}  // namespace

std::vector<Difference> differences(const NamedCheckpoint& a, const NamedCheckpoint& b) {
  std::vector<Difference> found;
  const auto& entries_a = a.manifest().entries;
  const auto& entries_b = b.manifest().entries;
  auto at_a = entries_a.begin();
  auto at_b = entries_b.begin();
  while (at_a != entries_a.end() || at_b != entries_b.end()) {
    if (at_b == entries_b.end() || (at_a != entries_a.end() && at_a->first < at_b->first)) {
      found.push_back({at_a->first, "only in A", shown(a, at_a->first, at_a->second), ""});
      ++at_a;
    } else if (at_a == entries_a.end() || at_b->first < at_a->first) {
      found.push_back({at_b->first, "only in B", "", shown(b, at_b->first, at_b->second)});
      ++at_b;
    } else {
      compare_entries(a, b, at_a->first, at_a->second, at_b->second, found);
      ++at_a;
      ++at_b;
    }
  }
  return found;
}

Output diff(const std::string& path_a, const std::string& path_b) {
  const NamedCheckpoint a = open_checkpoint(plain_path(path_a));
  const NamedCheckpoint b = open_checkpoint(plain_path(path_b));
  const auto found = differences(a, b);
  if (found.empty()) return {fmt::format("equal bit for bit: {} keys\n", a.manifest().entries.size())};
  Table table({{"key"}, {"difference"}, {"A"}, {"B"}});
  std::string last;
  size_t keys = 0;
  for (const Difference& difference : found) {
    if (keys == 0 || difference.key != last) ++keys;
    last = difference.key;
    table.add({difference.key, difference.what, difference.a, difference.b});
  }
  return {table.text() + fmt::format("{} {}; A is {}, B is {}\n", keys, keys == 1 ? "key differs" : "keys differ", printable(a.path()),
                                     printable(b.path())),
          exit_differs};
}

}  // namespace tessera::cli
