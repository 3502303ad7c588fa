#include "tessera/collectives/members.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <span>
#include <string>

namespace tessera {
namespace {

// Why `ranks` is no group that `rank` of `size` can be in.
std::optional<std::string> objection(const std::vector<int>& ranks, int rank, int size) {
  if (std::ranges::adjacent_find(ranks, std::ranges::greater_equal()) != ranks.end()) return "its ranks do not ascend";
  if (std::ranges::any_of(ranks, [&](int r) { return r < 0 || r >= size; }))
    return "it names a rank that is none of the " + std::to_string(size);
  if (std::ranges::find(ranks, rank) == ranks.end()) return "it leaves out the rank itself";
  return std::nullopt;
}

[[noreturn]] void refuse(int rank, const std::string& why) {
  throw Error({.code = Code::invalid_argument, .what = "split: the group of rank " + std::to_string(rank) + " cannot be: " + why});
}

}  // namespace

Members all_members(int rank, int size) {
  Members all{std::vector<int>(static_cast<size_t>(size)), rank};
  std::iota(all.ranks.begin(), all.ranks.end(), 0);
  return all;
}

Members agree_on_split(Collectives& whole, const Members& of, const std::vector<int>& ranks) {
  const int size = whole.size();
  const auto why_not = objection(ranks, whole.rank(), size);
  // A row a rank: 1 where it takes the other into its group; none where it could not say, so that all learn of it.
  const at::Tensor row = at::zeros({size}, at::kByte);
  if (!why_not) {
    for (const int r : ranks) row.mutable_data_ptr<uint8_t>()[r] = 1;
  }
  const at::Tensor rows = at::zeros({int64_t{size} * size}, at::kByte);
  whole.all_gather_into(rows, row, "split")->wait();
  const auto row_of = [&](int r) { return std::span(rows.const_data_ptr<uint8_t>() + int64_t{r} * size, static_cast<size_t>(size)); };
  for (int r = 0; r < size; ++r) {
    if (row_of(r)[static_cast<size_t>(r)] == 0) refuse(of.job_rank(r), r == whole.rank() && why_not ? *why_not : "it was refused there");
    for (int q = 0; q < size; ++q) {
      if (row_of(r)[static_cast<size_t>(q)] != 0 && !std::ranges::equal(row_of(r), row_of(q)))
        refuse(of.job_rank(r), "rank " + std::to_string(of.job_rank(q)) + " named another");
    }
  }
  Members group;
  for (const int r : ranks) {
    if (r == whole.rank()) group.mine = group.size();
    group.ranks.push_back(of.job_rank(r));
  }
  return group;
}

}  // namespace tessera
