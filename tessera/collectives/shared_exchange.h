// tessera/collectives/shared_exchange.h: ranks hand each other pieces through a shared region, a step at a time.
// Model       Each rank has a ring of slots. In step s it writes its slot s mod `slots`, says so, reads the slots of the others once they
//             said so, and says that it is through with them; a slot is written again once all ranks are through with it. All ranks make
//             the same steps. A rank may write some steps before it reads them, but fewer than there are slots.
// Memory      Bounded by the slots, whatever is handed through them. Each rank touches its own first, so they lie in its part of memory.
// Waiting     Looks for a moment, then sleeps on a futex in the region; about every `slice` it asks `watch`, which throws to end the wait.
// Trust       The ranks of a job trust each other: what one writes into the region can mislead the others, though not make them write
//             outside their buffers.
// Threads     One at a time; leave() only.
#pragma once

#include <cstdint>
#include <functional>

#include "tessera/base/deadline.h"
#include "tessera/collectives/collective_operation.h"
#include "tessera/collectives/shared_region.h"

namespace tessera {

struct SharedSlots {
  size_t count = 4;             // at least 3
  size_t bytes = size_t{1} << 20;  // of one; a multiple of 64
};

class SharedExchange {
 public:
  // Ends a wait for the rank at `place` by throwing; `left` where that rank has left for good.
  using Watch = std::function<void(int place, bool left)>;

  static size_t region_bytes(int ranks, const SharedSlots& slots);
  SharedExchange(SharedRegion region, int place, int ranks, const SharedSlots& slots);

  size_t slot_bytes() const { return slots_.bytes; }
  // This rank's slot of the next step to write: waits until all are through with what it held. What the operation is stands beside it.
  std::byte* open(const Watch& watch);
  void say(const CollectiveOperation& operation);
  void publish();
  // The slot that the rank at `place` wrote in the next step to read, once it did.
  const std::byte* await(int place, const Watch& watch);
  const CollectiveOperation& said(int place) const;
  // Through with the step: the next one may be read.
  void release();

  // Whoever waits for this rank, or will, learns that it is gone. From any thread.
  void leave();

 private:
  struct Counter;
  struct Seat;
  Seat& seat(int place) const;
  std::byte* slot(int place, uint32_t step) const;
  CollectiveOperation& header(int place, uint32_t step) const;
  void wait_for(int place, Counter& counter, uint32_t value, const Watch& watch);
  static void advance(Counter& counter, uint32_t value);

  SharedRegion region_;
  const int place_;
  const int ranks_;
  const SharedSlots slots_;
  const int looks_;  // before sleeping; few where ranks must share a core
  uint32_t writing_ = 0;
  uint32_t reading_ = 0;
};

}  // namespace tessera
