// tessera/plan/description.h: what a rank tells the leader about its part of a state: keys, types, shapes and boxes, no
// tensor bytes. A compact record of our own; it lives for one message.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"
#include "tessera/layout/state_dict.h"

namespace tessera {

struct TensorPart {
  DType dtype = DType::float32;
  Sizes sizes;             // of the global tensor
  std::vector<Box> boxes;  // what this rank holds, in the order of its shards
  // Of each box's elements in row-major order, nothing where it was not taken: replicas that disagree are found by it. None at all
  // unless somebody asked.
  std::vector<std::optional<Digest>> contents = {};
  bool alike = true;  // false: ranks' values may differ, and the first rank's are saved (Replicated)
  bool operator==(const TensorPart&) const = default;
};

struct ObjectPart {
  int64_t length_bytes = 0;  // of its encoded item
  Digest content = {};       // of the same bytes: replicas that disagree are found by it
  bool operator==(const ObjectPart&) const = default;
};

struct Part {
  KeyPath path;
  std::variant<TensorPart, ObjectPart> is;
  bool operator==(const Part&) const = default;
};

using Description = std::map<std::string, Part>;

Bytes encode(const Description& description);
// Of everything but contents: a plan depends on nothing else.
Digest shape_digest(const Description& description);
// Errors  Error(corrupt) for bytes that encode() did not write.
Description decode_description(std::span<const std::byte> bytes);

// A rank's state made ready for planning: its description, the encoded items of its objects, and the shards by key.
// Borrows the state's views.
struct Described {
  Description description;
  std::map<std::string, Bytes> objects;
  std::map<std::string, const TensorLeaf*> tensors;
  std::set<std::string> rank_local;  // those keys of `objects` that no other rank has
};
// A rank-local leaf is described under `<key>.rank<rank>`, its path ending alike.
// Errors  Error(invalid_argument) for a view that does not fit its box, its leaf's dtype or its leaf's shape, and for shards that are not
//         what the leaf's layout gives this rank of `ranks`.
Described describe(const StateDict& state, int rank, int ranks);
// The same checks of its tensors alone: what a load asks before it writes through a view.
void check_views(const StateDict& state, int rank, int ranks);

// A rank's box of a tensor: its key, and which of its boxes there.
struct HeldBox {
  std::string key;
  int32_t box = 0;
  bool operator==(const HeldBox&) const = default;
};
// The description with the digests of these boxes.
Description with_digests(const Described& described, const std::vector<HeldBox>& boxes);

Bytes encode(const std::vector<HeldBox>& boxes);
std::vector<HeldBox> decode_held_boxes(std::span<const std::byte> bytes);

// A key's path after the key, in fewer bytes where the path is the key alone.
void put_path(ByteWriter& out, const std::string& key, const KeyPath& path);

// "<key>.rank<r>", and the same ending on the last element of the path.
std::string rank_local_key(const std::string& key, int rank);
KeyPath rank_local_path(KeyPath path, int rank);

}  // namespace tessera
