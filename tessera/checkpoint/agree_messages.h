// tessera/checkpoint/agree_messages.h: what ranks and leader say to each other to come to a plan (agree.h).
// Errors  Decoders throw Error(corrupt) for bytes that encode() did not write.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"
#include "tessera/checkpoint/save.h"
#include "tessera/plan/description.h"

namespace tessera {

// From a rank: what it holds, in digests.
struct Proposal {
  bool compare_replicas = false;
  Digest shape = {};           // of its description
  Digest shared_objects = {};  // of their contents, which no shape tells
  // The plan that it keeps from a description of this shape. Where there is none it says what it takes to make one:
  std::optional<Digest> held = {};
  std::optional<Digest> table = {};  // of its layouts, where every tensor has one
  Description rank_local = {};       // its objects that no table has
  bool operator==(const Proposal&) const = default;
};
Bytes encode(const Proposal& proposal);
Proposal decode_proposal(std::span<const std::byte> bytes);

// From the leader: what the rank is to do.
struct Orders {
  Planned planned = Planned::described;
  std::string save_id = {};  // empty where a description is wanted first
  int64_t total_bytes = 0;
  Digest plan = {};  // its name
  // reused      the rank's writes, or nothing where it keeps them
  // derived     every rank's rank-local objects
  // described   the rank's writes
  Bytes rest = {};
  bool operator==(const Orders&) const = default;
};
Bytes encode(const Orders& orders);
Orders decode_orders(std::span<const std::byte> bytes);

}  // namespace tessera
