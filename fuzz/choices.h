// fuzz/choices.h: a structured case out of a fuzzer's bytes: each byte is one decision, and where they end all decisions are 0.
#pragma once

#include <cstdint>
#include <span>

namespace tessera::fuzz {

class Choices {
 public:
  explicit Choices(std::span<const uint8_t> bytes) : left_(bytes) {}
  // One of 0 … count - 1; count is 1 to 256.
  int64_t pick(int64_t count) {
    if (left_.empty()) return 0;
    const uint8_t byte = left_.front();
    left_ = left_.subspan(1);
    return byte % count;
  }
  bool maybe() { return pick(2) == 1; }
  bool empty() const { return left_.empty(); }

 private:
  std::span<const uint8_t> left_;
};

}  // namespace tessera::fuzz
