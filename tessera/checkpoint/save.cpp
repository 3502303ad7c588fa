#include "tessera/checkpoint/save.h"

#include <chrono>
#include <optional>

#include "tessera/base/digest.h"
#include "tessera/checkpoint/place.h"
#include "tessera/checkpoint/publish.h"
#include "tessera/comm/on_every_rank.h"
#include "tessera/format/dcp.h"

namespace tessera {
namespace {

// A rank's orders, and what all ranks must know.
struct Orders {
  std::string save_id;
  int64_t total_bytes = 0;
  RankWrites writes;
};
Bytes encode_orders(const Orders& orders) {
  ByteWriter out;
  out.put_string(orders.save_id);
  out.put(orders.total_bytes);
  out.put_bytes(encode(orders.writes));
  return out.take();
}
Orders decode_orders(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Orders orders;
  orders.save_id = in.get_string();
  orders.total_bytes = in.get<int64_t>();
  orders.writes = decode_rank_writes(in.get_bytes());
  return orders;
}

std::vector<Description> decode_descriptions(const std::vector<Bytes>& all) {
  std::vector<Description> descriptions;
  for (const Bytes& bytes : all) descriptions.push_back(decode_description(bytes));
  return descriptions;
}

// The boxes of this rank that have replicas, whose digests are to be taken.
std::vector<HeldBox> ask_for_replicas(Comm& comm, Described& mine, const StateDict& state) {
  return decode_held_boxes(through_leader(
      comm, Phase::plan,
      [&] {
        mine = describe(state, comm.rank());
        return encode(mine.description);
      },
      [&](std::vector<Bytes> all) {
        std::vector<Bytes> answers;
        for (const auto& boxes : replicated_boxes(decode_descriptions(all))) answers.push_back(encode(boxes));
        return answers;
      }));
}

// Descriptions go to the leader, orders come back. `plan` is set on the leader only.
Orders agree_on_plan(Comm& comm, const StateDict& state, bool compare_replicas, Described& mine, std::optional<SavePlan>& plan) {
  std::vector<HeldBox> replicated;
  if (compare_replicas) replicated = ask_for_replicas(comm, mine, state);
  return decode_orders(through_leader(
      comm, Phase::plan,
      [&] {
        if (!compare_replicas) mine = describe(state, comm.rank());
        digest_boxes(mine, replicated);
        return encode(mine.description);
      },
      [&](std::vector<Bytes> all) {
        plan = plan_save(decode_descriptions(all), random_id());
        int64_t total = 0;
        for (const RankWrites& writes : plan->ranks) total += writes.file_bytes;
        std::vector<Bytes> answers;
        for (RankWrites& writes : plan->ranks) answers.push_back(encode_orders({plan->manifest.save_id, total, writes}));
        return answers;
      }));
}

// Early word, before gigabytes are written; commit() has the last one.
void refuse_full_target(const Storage& storage, const Path& target, Replace replace) {
  if (replace != Replace::never || !storage.exists(target) || storage.list(target).empty()) return;
  const bool checkpoint = storage.exists(target + "/" + format::metadata_file);
  throw Error({.code = Code::exists,
               .what = checkpoint ? "a checkpoint is there already" : "the directory is not empty",
               .file = target,
               .hint = "choose another place, or ask for it to be replaced"});
}

std::vector<Proof> decode_proofs(const std::vector<Bytes>& all) {
  std::vector<Proof> proofs;
  for (const Bytes& bytes : all) proofs.push_back(decode_proof(bytes));
  return proofs;
}

}  // namespace

SaveReport save(Comm& comm, Storage& storage, const Path& target, const StateDict& state, const SaveOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const auto enter = [&](Phase phase) {
    if (options.on_phase) options.on_phase(phase);
  };
  enter(Phase::plan);
  comm.note("plan a save to " + target);
  Described mine;
  std::optional<SavePlan> plan;
  const Orders orders = agree_on_plan(comm, state, options.compare_replicas, mine, plan);
  const Path staging(as_text(on_leader(comm, Phase::start, [&] {
    refuse_full_target(storage, target, options.replace);
    const Path chosen = storage.stage(target, orders.save_id);
    return Bytes(as_bytes(chosen).begin(), as_bytes(chosen).end());
  })));
  try {
    enter(Phase::write);
    const auto proofs = on_every_rank_bytes(comm, Phase::write, [&] {
      const auto progress = [&](int64_t done, int64_t total) {
        comm.note("write " + orders.writes.file + ", " + std::to_string(done) + " of " + std::to_string(total) + " bytes");
      };
      Proof proof = write_shards(orders.writes, mine, storage, staging, progress);
      storage.sync(staging);
      return encode(proof);
    });
    enter(Phase::publish);
    on_leader(comm, Phase::publish, [&] {
      publish(*plan, decode_proofs(proofs), options.metrics, storage, staging, target, options.replace);
      return Bytes{};
    });
  } catch (...) {
    if (comm.rank() == 0) capture([&] { storage.remove(staging); });  // the first failure is the one to tell
    throw;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return {orders.save_id, orders.total_bytes, orders.writes.file_bytes, took.count()};
}

SaveReport save(Comm& comm, const std::string& directory, const StateDict& state, const SaveOptions& options) {
  const Place place = place_of(directory);
  LocalStorage storage(place.parent);
  return save(comm, storage, place.name, state, options);
}

}  // namespace tessera
