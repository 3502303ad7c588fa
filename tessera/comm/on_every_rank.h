// tessera/comm/on_every_rank.h: fail together, in one place.
// Each function is reached by every rank; what one rank throws, all ranks throw: the same Fault, with the rank that
// failed and the phase in it, and how many others failed alike. Collectives stay out of `work`.
#pragma once

#include <vector>

#include "tessera/comm/comm.h"

namespace tessera {

// A fault's bytes on the wire, and back.
Bytes encode(const Fault& fault);
Fault decode_fault(std::span<const std::byte> bytes);

// The fault that all ranks report when `faults` (rank → fault) happened in `phase`: the root cause. One that says only that
// others failed (aborted, peer_lost, timeout) gives way to one that does not; then the lowest rank's; `same_on` counts
// those with equal text.
Fault root_cause(const std::vector<std::pair<int, Fault>>& faults, Phase phase);

// For `lead` below: what `decode` makes of the bytes of `rank`. What it throws is that rank's fault, not the leader's.
template <class Decode>
auto of_rank(int rank, Decode decode) {
  auto decoded = capture(decode);
  if (!decoded && decoded.fault.rank < 0) decoded.fault.rank = rank;
  return std::move(decoded).or_throw();
}

// Runs `work` on this rank and returns every rank's bytes, in rank order.
std::vector<Bytes> on_every_rank_bytes(Comm& comm, Phase phase, const std::function<Bytes()>& work);
// The same, each rank learning only that all went well.
void on_every_rank(Comm& comm, Phase phase, const std::function<void()>& work);
// Runs `lead` on the leader with every rank's bytes, after `mine` went well everywhere, and gives each rank its answer.
// What `mine` throws on any rank, or `lead` on the leader, every rank throws.
Bytes through_leader(Comm& comm, Phase phase, const std::function<Bytes()>& mine, const Combine& lead);
// Runs `work` on the leader only and returns its bytes on every rank.
Bytes on_leader(Comm& comm, Phase phase, const std::function<Bytes()>& work);

}  // namespace tessera
