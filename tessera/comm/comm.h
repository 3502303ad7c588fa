// tessera/comm/comm.h: how ranks agree: small byte messages with deadlines, no tensors.
// Model       Rank 0 leads. Every exchange is one round trip through the leader: each rank hands in a message, the
//             leader turns all of them into one answer for each rank. Gather, broadcast and barrier are such rounds.
// Order       All ranks make the same rounds in the same order. Rounds are counted, and a rank whose count or purpose
//             differs gets Error(internal) that says so, instead of a hang.
// Errors      Error(timeout) when a peer has made no progress for the deadline: it names the ranks that are missing and
//             what each was last doing. Error(peer_lost) as soon as a peer is known to be gone. Error(aborted) after
//             abort(). After any of them the Comm is broken and every later round throws the same fault.
// Lines       A Comm has further lines among the same ranks, so that a thread in the background makes rounds of its own.
// Threads     The rounds of one line are made by one thread at a time; note(), abort() and failure() from any.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/base/bytes.h"
#include "tessera/base/deadline.h"
#include "tessera/base/error.h"

namespace tessera {

// Runs on the leader, with every rank's message in rank order; returns one answer a rank. If it throws, every rank
// throws what it threw.
using Combine = std::function<std::vector<Bytes>(std::vector<Bytes>)>;

class Comm {
 public:
  virtual ~Comm() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // One round trip. `purpose` is the same on every rank and stands in messages ("gather proofs").
  // `combine` is used on the leader only; elsewhere it may be empty.
  virtual Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) = 0;
  // Says what this rank is doing ("write __0_0.distcp") and how far it is, for the messages of others, which make a speed of it. It also
  // counts as progress, so that a long write that advances is no time-out. 0 bytes in total where nobody knows.
  virtual void note(std::string_view doing, int64_t done_bytes, int64_t total_bytes) = 0;
  void note(std::string_view doing) { note(doing, 0, 0); }
  // Breaks the Comm on every rank: all that wait throw `fault` at once, or as soon as word reaches them.
  virtual void abort(const Fault& fault) = 0;
  // The fault that broke the Comm, as soon as word of it is here; nothing while it works. From any thread, without waiting.
  virtual std::optional<Fault> failure() = 0;
  // Another line: a Comm among the same ranks, whose rounds, notes and deadline are its own. Every rank opens its lines in the same
  // order; opening makes no round. A lost or late rank and an abort break all lines. One that a rank closes while others wait on it
  // breaks alone. Error(limit) where 64 are open. This Comm outlives its lines.
  virtual std::unique_ptr<Comm> line() = 0;
};

// What the ranks of a round make of it. All are built on round().
std::vector<Bytes> all_gather(Comm& comm, std::string_view purpose, Bytes mine);   // everyone's, on every rank
Bytes broadcast(Comm& comm, std::string_view purpose, Bytes from_leader);          // the leader's, on every rank
void barrier(Comm& comm, std::string_view purpose);

}  // namespace tessera
