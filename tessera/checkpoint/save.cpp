#include "tessera/checkpoint/save.h"

#include <chrono>

#include "tessera/checkpoint/agree.h"
#include "tessera/checkpoint/place.h"
#include "tessera/checkpoint/publish.h"
#include "tessera/checkpoint/save_steps.h"
#include "tessera/comm/on_every_rank.h"

namespace tessera {
namespace {

// Throws what kept this rank from planning for itself.
const RankWrites& writes_of(const Agreement& agreed) {
  if (agreed.writes) return **agreed.writes.value;
  Fault fault = agreed.writes.fault;
  fault.phase = Phase::plan;
  throw Error(std::move(fault));
}

}  // namespace

SaveReport save_in_steps(Comm& comm, Storage& storage, const Path& target, const SaveSteps& steps, const SaveOptions& options) {
  const auto begin = std::chrono::steady_clock::now();
  const auto enter = [&](Phase phase) {
    if (options.on_phase) capture([&] { options.on_phase(phase); });  // one rank must not leave the others alone
  };
  enter(Phase::plan);
  comm.note("plan a save to " + target);
  PlanCache of_this_save;
  PlanCache& plans = options.plans ? *options.plans : of_this_save;
  const Agreement agreed = agree_on_plan(comm, steps.describe, options.compare_replicas, plans);
  Standing replaces;  // known to the leader only
  Path staging;       // on the leader from the moment on when it is there, though a rank be lost before the others hear of it
  try {
    const Bytes chosen = on_leader(comm, Phase::start, [&] {
      replaces = prepare_target(storage, target, options.replace);
      staging = storage.stage(target, agreed.save_id);
      return Bytes(as_bytes(staging).begin(), as_bytes(staging).end());
    });
    staging = as_text(chosen);
    enter(Phase::write);
    std::vector<Bytes> proofs;  // the leader's affair: the others need none
    through_leader(
        comm, Phase::write,
        [&] {
          const RankWrites& writes = writes_of(agreed);
          const auto progress = [&](int64_t done, int64_t total) { comm.note("write " + writes.file, done, total); };
          const Proof proof = steps.write(writes, staging, progress);
          storage.sync(staging);
          return encode(proof);
        },
        [&](std::vector<Bytes> all) {
          proofs = std::move(all);
          return std::vector<Bytes>(proofs.size());
        });
    enter(Phase::publish);
    on_leader(comm, Phase::publish, [&] {
      publish(plans.whole->plan, decode_each(proofs, decode_proof), options.metrics, storage, staging, target, options.replace, replaces);
      return Bytes{};
    });
  } catch (...) {
    if (comm.rank() == 0 && !staging.empty()) capture([&] { storage.remove(staging); });  // the first failure is the one to tell
    throw;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  return {.save_id = agreed.save_id,
          .planned = agreed.planned,
          .total_bytes = agreed.total_bytes,
          .rank_bytes = writes_of(agreed).file_bytes,
          .seconds = took.count()};
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
