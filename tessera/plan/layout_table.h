// tessera/plan/layout_table.h: what is the same on every rank, where every tensor has a layout: a whole job's descriptions in a few words.
// Ranks whose tables are equal know what each of them holds, but for rank-local objects, whose lengths are their own.
// Threads     Values; as safe as any value.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>

#include "tessera/base/digest.h"
#include "tessera/plan/description.h"

namespace tessera {

struct LayoutTable {
  struct Tensor {
    DType dtype = DType::float32;
    Sizes sizes;
    Layout layout;
    bool operator==(const Tensor&) const = default;
  };
  struct Object {
    int64_t length_bytes = 0;  // of its encoded item
    bool operator==(const Object&) const = default;
  };
  struct Entry {
    KeyPath path;
    std::variant<Tensor, Object> is;
    bool operator==(const Entry&) const = default;
  };
  int ranks = 1;
  std::map<std::string, Entry> entries;  // no rank-local ones
  bool operator==(const LayoutTable&) const = default;
};

// Nothing where a tensor has no layout.
std::optional<LayoutTable> layout_table(const Described& mine, int ranks);
Digest digest_of(const LayoutTable& table);
// That of layout_table(mine, ranks), without making the table.
std::optional<Digest> table_digest(const Described& mine, int ranks);
// What describe() gives on `rank`, without its rank-local objects and without contents.
Description description_of(const LayoutTable& table, int rank);
// The part of a description that no table has.
Description rank_local_objects(const Described& mine);

}  // namespace tessera
