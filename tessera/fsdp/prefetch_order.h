// tessera/fsdp/prefetch_order.h: the order in which units were made whole in the last iteration, as a guess for this one.
// A wrong guess costs a gather, never a wrong result; ranks that use their units in the same order guess the same.
#pragma once

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

namespace tessera {

class ModuleUnit;

class PrefetchOrder {
 public:
  // An iteration begins: what the last one did is what this one is expected to do.
  void begin() {
    if (seen_.empty()) return;
    expected_ = std::move(seen_);
    seen_.clear();
  }
  // `unit` is made whole now. Returns the units, `count` at most, that followed in the last iteration; none where the two differ.
  std::span<ModuleUnit* const> after(ModuleUnit& unit, int count) {
    seen_.push_back(&unit);
    const size_t next = seen_.size();
    if (next >= expected_.size() || expected_[next - 1] != &unit) return {};
    return std::span(expected_).subspan(next, std::min(static_cast<size_t>(count), expected_.size() - next));
  }
  void forget() {
    expected_.clear();
    seen_.clear();
  }

 private:
  std::vector<ModuleUnit*> expected_;
  std::vector<ModuleUnit*> seen_;
};

}  // namespace tessera
