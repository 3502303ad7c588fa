// Pickles: the graph is as small and as deep as the limits say, and a value that is decoded can be written and read again.
#include "tessera/format/pickle.h"

#include <algorithm>
#include <unordered_map>

#include "fuzz/properties.h"
#include "tessera/format/value_pickle.h"

namespace tessera::fuzz {
namespace {

using format::Node;
using format::Pickle;
using format::PickleLimits;

class NoStorages final : public format::Storages {
 public:
  const ByteSource& source() const override { return source_; }
  bool big_endian() const override { return false; }
  format::StoragePlace storage(const std::string&) const override { throw corrupt_at(source_, 0, "no storages"); }

 private:
  const MemorySource source_{{}};
};

struct Extent {
  int64_t nodes = 1;
  int depth = 1;
};

// Shared nodes are counted each time they are used, and looked at once.
Extent extent_of(const Node& node, std::unordered_map<const Node*, Extent>& known) {
  if (const auto found = known.find(&node); found != known.end()) return found->second;
  Extent extent;
  const auto add = [&](const Node* inner) {
    require(inner != nullptr, "a graph has no holes");
    const Extent part = extent_of(*inner, known);
    extent.nodes += part.nodes;
    extent.depth = std::max(extent.depth, part.depth + 1);
  };
  if (node.is_made()) add(&node.callee());
  for (const Node* item : node.items()) add(item);
  for (const Node* item : node.set()) add(item);
  if (node.state()) add(node.state());
  require(extent.nodes <= 1'000'000'000, "a graph is bounded");
  return known[&node] = extent;
}

// Empty where the pickle is not a plain value.
std::optional<Value> value_of(const Node& root) {
  std::optional<Value> value;
  try {
    accepted([&] { value = format::decode_value(root, NoStorages()); });
  } catch (const format::Unknown&) {
  }
  return value;
}

void check_value(const Value& value) {
  Bytes written;
  const bool wrote = accepted(
      [&] {
        format::ValuePickler pickler;
        pickler.put(value);
        written = pickler.finish();
      },
      {Code::unsupported, Code::limit, Code::invalid_argument});
  if (!wrote) return;
  const Pickle again(written);
  require(value_of(again.root()) == value, "what is written reads back as it was");
  require(!to_string(value).empty(), "a value has a text");
}

void parse(std::span<const std::byte> bytes, const PickleLimits& limits) {
  std::optional<Pickle> pickle;
  if (!accepted([&] { pickle.emplace(bytes, limits); })) return;
  require(pickle->size_bytes() > 0 && pickle->size_bytes() <= static_cast<int64_t>(bytes.size()), "a pickle lies inside its bytes");
  require(limits.more || pickle->size_bytes() == static_cast<int64_t>(bytes.size()), "nothing follows a pickle unasked");
  require(limits.cycles || !pickle->is_cyclic(), "no cycles unasked");
  if (pickle->is_cyclic()) return;
  std::unordered_map<const Node*, Extent> known;
  const Extent extent = extent_of(pickle->root(), known);
  require(extent.nodes <= limits.nodes, "no more nodes than the limit");
  require(extent.depth <= limits.depth + 1, "no deeper than the limit");
  if (const auto value = value_of(pickle->root())) check_value(*value);
}

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera::fuzz;
  const auto bytes = bytes_of(data, size);
  constexpr int64_t nodes = 20'000;  // small, so that an input cannot be slow
  parse(bytes, {.nodes = nodes});
  parse(bytes, {.nodes = nodes, .persistent_ids = true, .more = true});
  parse(bytes, {.nodes = nodes, .persistent_ids = true, .more = true, .cycles = true});
  return 0;
}
