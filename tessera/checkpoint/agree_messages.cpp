#include "tessera/checkpoint/agree_messages.h"

#include <algorithm>

namespace tessera {
namespace {

Digest get_digest(ByteReader& in) {
  Digest digest;
  std::ranges::copy(in.get_raw(digest.size()), digest.begin());
  return digest;
}

void put_optional(ByteWriter& out, const std::optional<Digest>& digest) {
  out.put(digest.has_value());
  if (digest) out.put_raw(*digest);
}

std::optional<Digest> get_optional(ByteReader& in) {
  if (!in.get<bool>()) return std::nullopt;
  return get_digest(in);
}

}  // namespace

Bytes encode(const Proposal& proposal) {
  ByteWriter out;
  out.put(proposal.compare_replicas);
  out.put_raw(proposal.shape);
  out.put_raw(proposal.shared_objects);
  put_optional(out, proposal.held);
  if (proposal.held) return out.take();
  put_optional(out, proposal.table);
  out.put_raw(encode(proposal.rank_local));
  return out.take();
}

Proposal decode_proposal(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Proposal proposal;
  proposal.compare_replicas = in.get<bool>();
  proposal.shape = get_digest(in);
  proposal.shared_objects = get_digest(in);
  proposal.held = get_optional(in);
  if (proposal.held) return proposal;
  proposal.table = get_optional(in);
  proposal.rank_local = decode_description(in.get_raw(in.left()));
  return proposal;
}

Bytes encode(const Orders& orders) {
  ByteWriter out;
  out.put(orders.planned);
  out.put_string(orders.save_id);
  out.put(orders.total_bytes);
  out.put_raw(orders.plan);
  out.put_raw(orders.rest);
  return out.take();
}

Orders decode_orders(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Orders orders;
  orders.planned = in.get<Planned>();
  if (orders.planned > Planned::reused) throw Error({.code = Code::corrupt, .what = "a message orders what nobody knows"});
  orders.save_id = in.get_string();
  orders.total_bytes = in.get<int64_t>();
  orders.plan = get_digest(in);
  const auto rest = in.get_raw(in.left());
  orders.rest.assign(rest.begin(), rest.end());
  return orders;
}

}  // namespace tessera
