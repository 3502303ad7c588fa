#include "tessera/collectives/collective_operation.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstring>

namespace tessera {
namespace {

uint64_t fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

std::string ordinal(uint64_t number) {
  const uint64_t last_two = number % 100;
  const bool teens = last_two >= 11 && last_two <= 13;
  const char* const endings[] = {"th", "st", "nd", "rd"};
  return std::to_string(number) + endings[!teens && number % 10 < 4 ? number % 10 : 0];
}

}  // namespace

CollectiveOperation operation(CollectiveKind kind, const at::Tensor& one, std::string_view label, Reduce how, int root) {
  CollectiveOperation made{.numel = one.numel(), .kind = kind, .how = how, .dtype = one.scalar_type(), .root = root};
  const std::string_view kept = label.substr(label.size() - std::min(label.size(), made.label.size()));
  made.label_hash = fnv1a(label);
  made.label_size = static_cast<uint8_t>(kept.size());
  std::copy(kept.begin(), kept.end(), made.label.begin());
  return made;
}

const char* name(CollectiveKind kind) {
  switch (kind) {
    case CollectiveKind::all_gather: return "all_gather";
    case CollectiveKind::reduce_scatter: return "reduce_scatter";
    case CollectiveKind::all_reduce: return "all_reduce";
    case CollectiveKind::broadcast: return "broadcast";
  }
  return "?";
}

std::string describe(const CollectiveOperation& operation) {
  const std::string what = std::to_string(operation.numel) + " " + c10::toString(operation.dtype);
  const size_t size = std::min<size_t>(operation.label_size, operation.label.size());
  const std::string label(operation.label.data(), size);
  return std::string(name(operation.kind)) + " of " + (label.empty() ? what : label + " (" + what + ")");
}

Fault different_ways(int rank, const CollectiveOperation& launched, int other_rank, const CollectiveOperation& other) {
  std::string apart;
  if (describe(launched) == describe(other)) apart = "; they differ in how they reduce, in their root or in their label";
  return {.code = Code::mismatch,
          .what = "ranks went different ways: rank " + std::to_string(rank) + " launched " + describe(launched) + " as its " +
                  ordinal(launched.number + 1) + ", rank " + std::to_string(other_rank) + " launched " + describe(other) + apart,
          .hint = "every rank launches the same operations in the same order: look for a branch of the model that only some ranks take"};
}

Fault met_in(Fault fault, const CollectiveOperation& operation) {
  if (fault.code == Code::peer_lost) fault.what += ", in " + describe(operation);
  return fault;
}

}  // namespace tessera
