// What ranks say to each other: every decoder takes the same bytes, and what it makes of them is the same once encoded and decoded again.
#include <algorithm>

#include "fuzz/properties.h"
#include "tessera/checkpoint/agree_messages.h"
#include "tessera/comm/list.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/comm/socket/hello.h"
#include "tessera/comm/socket/wire.h"
#include "tessera/plan/description.h"
#include "tessera/plan/save_plan.h"
#include "tessera/transfer/write_shards.h"

namespace tessera::fuzz {
namespace {

constexpr int64_t limit_bytes = 1 << 16;

void frame(std::span<const std::byte> bytes) {
  Message message;
  if (!accepted([&] { message = decode_message(bytes); }, {Code::corrupt})) return;
  const Message again = decode_message(encode(message));
  require(again.kind == message.kind && again.first == message.first && again.second == message.second && again.bytes == message.bytes &&
              again.text == at_most(message.text, again.text.size()),
          "a message is the same once encoded and decoded");
  for (int ranks = 1; ranks <= 3; ++ranks) {
    int rank = 0;
    if (accepted([&] { rank = rank_of_hello(message, ranks); }, {Code::mismatch}))
      require(rank > 0 && rank < ranks, "a newcomer's rank is one of the job's followers");
  }
}

// Frames one after the other, as one peer sends them.
void parts(const std::vector<Bytes>& frames) {
  Assembly assembly;
  Bytes so_far;
  for (const Bytes& frame : frames) {
    std::optional<Bytes> whole;
    const bool taken = accepted(
        [&] {
          Message part = decode_message(frame);
          const Bytes piece = part.bytes;
          whole = assembly.add(std::move(part), limit_bytes);
          so_far.insert(so_far.end(), piece.begin(), piece.end());
        },
        {Code::corrupt});
    if (!taken) return;
    require(static_cast<int64_t>(so_far.size()) <= limit_bytes, "no more is kept than the limit allows");
    if (!whole) continue;
    require(*whole == so_far, "a message is its parts, one after the other");
    so_far.clear();
  }
}

void list(std::span<const std::byte> bytes) {
  std::vector<Bytes> messages;
  if (!accepted([&] { messages = decode_list(bytes); }, {Code::corrupt})) return;
  require(std::ranges::equal(encode_list(messages), bytes), "a list has one encoding");
  parts(messages);
}

void fault(std::span<const std::byte> bytes) {
  Fault fault;
  if (!accepted([&] { fault = decode_fault(bytes); }, {Code::corrupt})) return;
  require(decode_fault(encode(fault)) == fault, "a fault is the same once encoded and decoded");
  require(fault.code <= Code::internal && fault.phase <= Phase::train, "a fault's code and phase are known");
  require(describe(fault).size() >= fault.what.size(), "a fault can be told");
  require(exit_code(fault.code) > 0, "a fault is no success");
  require(root_cause({{0, fault}, {1, fault}}, Phase::write).rank >= 0, "the root cause has a rank");
}

void description(std::span<const std::byte> bytes) {
  Description description;
  if (!accepted([&] { description = decode_description(bytes); }, {Code::corrupt})) return;
  require(decode_description(encode(description)) == description, "a description is the same once encoded and decoded");
  SavePlan plan;
  if (!accepted([&] { plan = plan_save({description, description}, "id"); },
                {Code::mismatch, Code::invalid_argument, Code::corrupt, Code::limit}))
    return;
  require(plan.ranks.size() == 2, "every rank has its part of the plan");
}

void plans(std::span<const std::byte> bytes) {
  RankWrites writes;
  if (accepted([&] { writes = decode_rank_writes(bytes); }, {Code::corrupt}))
    require(decode_rank_writes(encode(writes)) == writes, "a rank's writes are the same once encoded and decoded");
  Proposal proposal;
  if (accepted([&] { proposal = decode_proposal(bytes); }, {Code::corrupt}))
    require(decode_proposal(encode(proposal)) == proposal, "a proposal is the same once encoded and decoded");
  Orders orders;
  if (accepted([&] { orders = decode_orders(bytes); }, {Code::corrupt}))
    require(decode_orders(encode(orders)) == orders, "orders are the same once encoded and decoded");
  Proof proof;
  if (accepted([&] { proof = decode_proof(bytes); }, {Code::corrupt}))
    require(decode_proof(encode(proof)) == proof, "a proof is the same once encoded and decoded");
}

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera::fuzz;
  const auto bytes = bytes_of(data, size);
  frame(bytes);
  list(bytes);
  fault(bytes);
  description(bytes);
  plans(bytes);
  return 0;
}
