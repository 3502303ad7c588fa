// tessera/transfer/slab_ring.h: memory in which blocks of a file stand between the state and the disk: a few slabs of one size,
// used again and again, so that a save of any size takes no more than its budget.
// Promises    Never more than `count` slabs exist. They are made when first needed and live until the ring ends.
// Errors      acquire() throws what stop() was given; Error(no_memory) where the system has none.
// Threads     Any. A slab belongs to one thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "tessera/base/error.h"
#include "tessera/base/guarded.h"

namespace tessera {

class SlabRing;

// A slab on loan: goes back when it ends. The ring outlives it.
class Slab {
 public:
  Slab() = default;
  Slab(SlabRing& ring, std::byte* data) : ring_(&ring), data_(data) {}
  Slab(Slab&& other) noexcept : ring_(std::exchange(other.ring_, nullptr)), data_(std::exchange(other.data_, nullptr)) {}
  Slab& operator=(Slab&& other) noexcept {
    std::swap(ring_, other.ring_);
    std::swap(data_, other.data_);
    return *this;
  }
  ~Slab();
  std::byte* data() const { return data_; }
  explicit operator bool() const { return data_ != nullptr; }

 private:
  SlabRing* ring_ = nullptr;
  std::byte* data_ = nullptr;
};

class SlabRing {
 public:
  SlabRing(int count, int64_t slab_bytes);

  // Waits for a slab to come back where all are out.
  Slab acquire();
  // Ends every wait, now and later.
  void stop(Fault fault) noexcept;
  // Makes slabs for so many bytes, no more than `count`, and touches their pages, so that a copy into them meets no page fault.
  void warm(int64_t bytes);
  // For the next piece of work, once the last one is over: forgets the stop, and counts anew.
  void restart();

  int64_t slab_bytes() const { return slab_bytes_; }
  int64_t capacity_bytes() const { return count_ * slab_bytes_; }
  // The most bytes that were out at once, and how often acquire() had to wait, since the restart.
  int64_t peak_bytes() const;
  int64_t waits() const;

 private:
  friend class Slab;
  // Slabs side by side. Large rings are made of long stretches on large pages: a copy into pages of 4 KiB takes nearly twice as long.
  struct Stretch {
    Stretch(int slabs, int64_t slab_bytes);
    Stretch(Stretch&& other) noexcept : bytes(other.bytes), data(std::exchange(other.data, nullptr)) {}
    ~Stretch();
    size_t bytes;
    std::byte* data;
  };
  struct State {
    std::vector<Stretch> all;
    int made = 0;  // slabs in all of them
    std::vector<std::byte*> free;
    int out = 0;
    int most_out = 0;
    int64_t waits = 0;
    std::optional<Fault> stopped;
  };
  void grow(State& state) const;
  void give_back(std::byte* data) noexcept;

  const int count_;
  const int64_t slab_bytes_;
  mutable Guarded<State> state_;
};

}  // namespace tessera
