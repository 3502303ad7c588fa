#include "tessera/collectives/arguments.h"

namespace tessera {
namespace {

void check(bool good, const char* operation, const std::string& what) {
  if (!good) throw Error({.code = Code::invalid_argument, .what = std::string(operation) + ": " + what});
}

void check_tensor(const at::Tensor& tensor, const char* operation, const char* which, Memory memory) {
  check(tensor.defined(), operation, std::string(which) + " is no tensor");
  if (memory == Memory::host && !tensor.is_cpu())
    throw Error({.code = Code::unsupported, .what = std::string(operation) + ": " + which + " is not in CPU memory"});
  check(tensor.is_contiguous(), operation, std::string(which) + " is not contiguous");
}

void check_shard_of(const at::Tensor& shard, const at::Tensor& full, const char* operation, int ranks, Memory memory) {
  check_tensor(shard, operation, "shard", memory);
  check_tensor(full, operation, "full", memory);
  check(shard.device() == full.device(), operation, "shard is on " + shard.device().str() + " and full on " + full.device().str());
  check(shard.dim() == 1 && full.dim() == 1, operation, "shard and full are not both 1-D");
  check(shard.scalar_type() == full.scalar_type(), operation,
        std::string("shard is ") + c10::toString(shard.scalar_type()) + " and full is " + c10::toString(full.scalar_type()));
  check(full.numel() == shard.numel() * ranks, operation,
        "full has " + std::to_string(full.numel()) + " elements, not " + std::to_string(ranks) + " times the " +
            std::to_string(shard.numel()) + " of shard");
}

bool overlap(const at::Tensor& a, const at::Tensor& b) {
  const auto* a_begin = static_cast<const std::byte*>(a.data_ptr());
  const auto* b_begin = static_cast<const std::byte*>(b.data_ptr());
  const std::less<const std::byte*> before;
  return before(a_begin, b_begin + b.nbytes()) && before(b_begin, a_begin + a.nbytes());
}

// Those that every transport adds and compares.
void check_reduction(at::ScalarType dtype, Reduce how, const char* operation) {
  const bool integer = dtype == at::kChar || dtype == at::kByte || dtype == at::kInt || dtype == at::kLong;
  const bool real = dtype == at::kFloat || dtype == at::kDouble || dtype == at::kHalf || dtype == at::kBFloat16;
  const bool known = real || (integer && how != Reduce::mean);
  if (!known)
    throw Error({.code = Code::unsupported,
                 .what = std::string(operation) + ": no " + (how == Reduce::mean ? "mean" : "reduction") + " of " + c10::toString(dtype)});
}

}  // namespace

void check_all_gather(const at::Tensor& full, const at::Tensor& shard, int ranks, Memory memory) {
  check_shard_of(shard, full, "all_gather", ranks, memory);
}

void check_reduce_scatter(const at::Tensor& shard, const at::Tensor& full, Reduce how, int ranks, Memory memory) {
  check_shard_of(shard, full, "reduce_scatter", ranks, memory);
  check_reduction(shard.scalar_type(), how, "reduce_scatter");
  check(!overlap(shard, full), "reduce_scatter", "shard lies inside full");
}

void check_all_reduce(const at::Tensor& tensor, Reduce how, Memory memory) {
  check_tensor(tensor, "all_reduce", "tensor", memory);
  check_reduction(tensor.scalar_type(), how, "all_reduce");
}

void check_broadcast(const at::Tensor& tensor, int root, int ranks, Memory memory) {
  check_tensor(tensor, "broadcast", "tensor", memory);
  check(root >= 0 && root < ranks, "broadcast", "no rank " + std::to_string(root) + " among " + std::to_string(ranks));
}

}  // namespace tessera
