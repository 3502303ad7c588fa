// examples/gpt/text.h: bytes of a text as training samples. Which sample is the n-th follows from the seed and n alone, so that the order
// depends neither on the number of ranks nor on where a run was interrupted.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

#include "tessera/layout/state_dict.h"

class Text {
 public:
  // Reads a file, or, for an empty name, the licence texts that every Debian has.
  Text(const std::string& file, uint64_t seed, int64_t seq);
  // Samples [first, last) after those that were taken: [last - first, seq + 1] of int64.
  at::Tensor samples(int64_t first, int64_t last) const;
  // Goes on to the next batch.
  void take(int64_t samples) { taken_ += samples; }

  tessera::StateDict state_dict() const;
  void load_state_dict(const tessera::StateDict& loaded);

 private:
  std::string bytes_;
  uint64_t seed_;
  int64_t seq_;
  int64_t taken_ = 0;
};
