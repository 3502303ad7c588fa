// tessera/transfer/staged_write.h: a rank's file written behind the trainer's back.
// One thread copies the state into the slabs of a ring, others hash and write them. The state may be changed as soon as the copy is done,
// long before the disk is; so that it is done soon, nothing is hashed or written before that, unless the ring is full.
//
// Memory      The ring's, whatever the size of the state. Where the file is larger, the copy waits for the disk again and again: the file
//             goes in waves.
// Errors      What write_shards() throws; what `check` throws, which is asked before every block.
#pragma once

#include <functional>

#include "tessera/transfer/slab_ring.h"
#include "tessera/transfer/write_shards.h"

namespace tessera {

struct StagedWrite {
  WriteWork write = {};
  std::function<void()> check = {};  // throws where the work is to be given up; asked from both threads
  std::function<void()> staged = {};  // told once, when the last byte of the state is copied; not if the work fails before
};

// As write_shards(), through `ring`, whose slabs are of block_bytes and at least least_slabs.
Proof write_shards_staged(const RankWrites& writes, const Described& state, Storage& storage, const Path& directory, SlabRing& ring,
                          const StagedWrite& work);

}  // namespace tessera
