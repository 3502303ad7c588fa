// tessera/collectives/collective_operation.h: what a rank launched, to hold against what the others did and to name in errors.
#pragma once

#include <c10/core/ScalarType.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "tessera/collectives/collectives.h"

namespace tessera {

enum class CollectiveKind : uint8_t { all_gather, reduce_scatter, all_reduce, broadcast };

// Travels between processes as it lies in memory, so it has a fixed size and no holes.
struct CollectiveOperation {
  uint64_t number = 0;  // among the launches of its Collectives
  int64_t numel = 0;    // of a shard, or of the whole where there are no shards
  uint64_t label_hash = 0;
  CollectiveKind kind = CollectiveKind::all_gather;
  Reduce how = Reduce::sum;
  c10::ScalarType dtype = c10::ScalarType::Float;
  uint8_t label_size = 0;
  int32_t root = 0;
  std::array<char, 96> label = {};  // the end of one that is longer, since names differ there
  bool operator==(const CollectiveOperation&) const = default;
};
static_assert(sizeof(CollectiveOperation) == 128);

CollectiveOperation operation(CollectiveKind kind, const at::Tensor& one, std::string_view label, Reduce how = Reduce::sum, int root = 0);

const char* name(CollectiveKind kind);
// "all_gather of h.3 (4096 Float)", or "all_gather of 4096 Float" where it has no label.
std::string describe(const CollectiveOperation& operation);

// Error(mismatch) for two ranks of a job of which each launched something else: "rank 1 launched all_gather of h.3 (4096 Float) as its
// 17th, rank 0 launched all_gather of h.2 (4096 Float)".
Fault different_ways(int rank, const CollectiveOperation& launched, int other_rank, const CollectiveOperation& other);

// A fault of the control plane, as it is met in an operation: one that tells of a lost rank says where it was missed.
Fault met_in(Fault fault, const CollectiveOperation& operation);

}  // namespace tessera
