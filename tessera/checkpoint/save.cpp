#include "tessera/checkpoint/save.h"

#include <chrono>
#include <optional>

#include "tessera/base/digest.h"
#include "tessera/checkpoint/place.h"
#include "tessera/checkpoint/publish.h"
#include "tessera/checkpoint/save_steps.h"
#include "tessera/comm/on_every_rank.h"

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

// Tells this rank which of its boxes are held elsewhere too: those whose digests the plan is to compare.
Bytes ask_for_replicas(Comm& comm, const std::function<const Described&()>& describe) {
  return through_leader(
      comm, Phase::plan, [&] { return encode(describe().description); },
      [&](std::vector<Bytes> all) {
        std::vector<Bytes> answers;
        for (const auto& boxes : replicated_boxes(decode_each(all, decode_description))) answers.push_back(encode(boxes));
        return answers;
      });
}

// Descriptions go to the leader, orders come back. `plan` is set on the leader only.
Orders agree_on_plan(Comm& comm, const std::function<const Described&()>& describe, bool compare_replicas, std::optional<SavePlan>& plan) {
  const Described* mine = nullptr;
  const auto described = [&]() -> const Described& {
    if (!mine) mine = &describe();
    return *mine;
  };
  std::optional<Bytes> replicated;
  if (compare_replicas) replicated = ask_for_replicas(comm, described);
  return decode_orders(through_leader(
      comm, Phase::plan,
      [&] { return encode(replicated ? with_digests(described(), decode_held_boxes(*replicated)) : described().description); },
      [&](std::vector<Bytes> all) {
        plan = plan_save(decode_each(all, decode_description), random_id());
        int64_t total = 0;
        for (const RankWrites& writes : plan->ranks) total += writes.file_bytes;
        std::vector<Bytes> answers;
        for (RankWrites& writes : plan->ranks) answers.push_back(encode_orders({plan->manifest.save_id, total, writes}));
        return answers;
      }));
}

}  // namespace

SaveReport save_in_steps(Comm& comm, Storage& storage, const Path& target, const SaveSteps& steps, const SaveOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const auto enter = [&](Phase phase) {
    if (options.on_phase) capture([&] { options.on_phase(phase); });  // one rank must not leave the others alone
  };
  enter(Phase::plan);
  comm.note("plan a save to " + target);
  std::optional<SavePlan> plan;
  const Orders orders = agree_on_plan(comm, steps.describe, options.compare_replicas, plan);
  Standing replaces;  // known to the leader only
  Path staging;       // on the leader from the moment on when it is there, though a rank be lost before the others hear of it
  try {
    const Bytes chosen = on_leader(comm, Phase::start, [&] {
      replaces = prepare_target(storage, target, options.replace);
      staging = storage.stage(target, orders.save_id);
      return Bytes(as_bytes(staging).begin(), as_bytes(staging).end());
    });
    staging = as_text(chosen);
    enter(Phase::write);
    const auto proofs = on_every_rank_bytes(comm, Phase::write, [&] {
      const auto progress = [&](int64_t done, int64_t total) { comm.note("write " + orders.writes.file, done, total); };
      Proof proof = steps.write(orders.writes, staging, progress);
      storage.sync(staging);
      return encode(proof);
    });
    enter(Phase::publish);
    on_leader(comm, Phase::publish, [&] {
      publish(*plan, decode_each(proofs, decode_proof), options.metrics, storage, staging, target, options.replace, replaces);
      return Bytes{};
    });
  } catch (...) {
    if (comm.rank() == 0 && !staging.empty()) capture([&] { storage.remove(staging); });  // the first failure is the one to tell
    throw;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return {.save_id = orders.save_id, .total_bytes = orders.total_bytes, .rank_bytes = orders.writes.file_bytes, .seconds = took.count()};
}

SaveReport save(Comm& comm, Storage& storage, const Path& target, const StateDict& state, const SaveOptions& options) {
  Described mine;
  const SaveSteps steps{.describe = [&]() -> const Described& {
                          mine = describe(state, comm.rank(), comm.size());
                          return mine;
                        },
                        .write =
                            [&](const RankWrites& writes, const Path& staging, const Progress& progress) {
                              return write_shards(writes, mine, storage, staging,
                                                  {.threads = threads_of(options.io, comm.size()),
                                                   .most_bytes_per_second = options.io.most_bytes_per_second,
                                                   .progress = progress});
                            }};
  SaveReport report = save_in_steps(comm, storage, target, steps, options);
  report.stall_seconds = report.seconds;
  return report;
}

SaveReport save(Comm& comm, const std::string& directory, const StateDict& state, const SaveOptions& options) {
  const Place place = place_of(directory);
  LocalStorage storage(place.parent);
  return save(comm, storage, place.name, state, options);
}

}  // namespace tessera
