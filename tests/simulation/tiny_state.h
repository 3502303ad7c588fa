// tests/simulation/tiny_state.h: a state whose every element is known from its version, small enough for hundreds of ranks.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "tessera/layout/state_dict.h"
#include "tessera/storage/storage.h"

namespace tessera {

// Who holds what. The same for all jobs of a story, so that any of them can load what another saved.
struct TinyLayout {
  int64_t rows = 8;        // of "rows", dealt out to the first `owners` ranks in blocks
  int owners = 4;
  int flat_owners = 3;     // of "flat", cut as a flat buffer is
  bool rank_local = false;  // a value of its own on each rank; then only as many ranks load as saved
};

// One rank's part, in memory of its own.
class TinyState {
 public:
  TinyState(const TinyLayout& layout, int rank, int ranks, int64_t version);
  // True if every element and object that this rank holds is that of `version`; its own value may be None where it was `reset`.
  bool is(int64_t version, bool reset) const;
  int64_t version() const;  // that of its object

  StateDict state;

 private:
  using Cells = std::vector<int32_t>;
  void add_tensor(const std::string& key, const Sizes& sizes, const std::vector<Box>& boxes, int64_t version);

  std::deque<Cells> memory_;
  int rank_;
};

// The version of a checkpoint that is whole, element by element; nothing, and `why`, for any other.
std::optional<int64_t> whole_version(std::shared_ptr<const Storage> storage, const Path& directory, const TinyLayout& layout,
                                     std::string& why);

}  // namespace tessera
