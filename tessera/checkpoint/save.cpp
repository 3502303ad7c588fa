#include "tessera/checkpoint/save.h"

#include <chrono>

#include "tessera/base/trace.h"
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

using Clock = std::chrono::steady_clock;

double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

SaveReport save_in_steps(Comm& comm, Storage& storage, const Path& target, const SaveSteps& steps, const SaveOptions& options) {
  const auto begin = Clock::now();
  std::map<Phase, Clock::time_point> began;
  const auto enter = [&](Phase phase) {
    began[phase] = Clock::now();
    if (options.on_phase) capture([&] { options.on_phase(phase); });  // one rank must not leave the others alone
  };
  name_rank_row(comm.rank());
  enter(Phase::plan);
  comm.note("plan a save to " + target);
  PlanCache of_this_save;
  PlanCache& plans = options.plans ? *options.plans : of_this_save;
  const Agreement agreed = [&] {
    const TraceSpan span("plan");
    return agree_on_plan(comm, steps.describe, options.compare_replicas, plans);
  }();
  Standing replaces;  // known to the leader only
  WriteChoice choice;
  Path staging;  // on the leader from the moment on when it is there, though a rank be lost before the others hear of it
  try {
    const Bytes answer = on_leader(comm, Phase::start, [&] {
      replaces = prepare_target(storage, target, options.replace);
      staging = storage.stage(target, agreed.save_id);
      return Bytes(as_bytes(staging).begin(), as_bytes(staging).end());
    });
    staging = as_text(answer);
    enter(Phase::write);
    std::vector<Bytes> proofs;  // the leader's affair: the others need none
    through_leader(
        comm, Phase::write,
        [&] {
          const RankWrites& writes = writes_of(agreed);
          const auto progress = [&](int64_t done, int64_t total) { comm.note("write " + writes.file, done, total); };
          choice = chosen(options.io, comm.size(), storage.write_choice(staging));
          const Proof proof = steps.write(writes, staging, choice, progress);
          if (choice.mode != proof.mode && !proof.file.empty())
            choice = {.mode = proof.mode, .threads = choice.threads, .why = "this file system cannot be written to past its page cache"};
          storage.sync(staging);
          return encode(proof);
        },
        [&](std::vector<Bytes> all) {
          proofs = std::move(all);
          return std::vector<Bytes>(proofs.size());
        });
    enter(Phase::publish);
    const TraceSpan span("publish");
    on_leader(comm, Phase::publish, [&] {
      PlanCache::Whole& whole = *plans.whole;
      publish(whole.plan, decode_each(proofs, decode_proof), options.metrics, storage, staging, target, options.replace, replaces,
              &whole.encoded);
      whole.plan.manifest.entries = {};  // the larger of the two
      return Bytes{};
    });
  } catch (...) {
    if (comm.rank() == 0 && !staging.empty()) capture([&] { storage.remove(staging); });  // the first failure is the one to tell
    throw;
  }
  const auto end = Clock::now();
  return {.save_id = agreed.save_id,
          .planned = agreed.planned,
          .total_bytes = agreed.total_bytes,
          .rank_bytes = writes_of(agreed).file_bytes,
          .verified_bytes = agreed.total_bytes,  // nothing is published that is not
          .seconds = seconds(end - begin),
          .plan_seconds = seconds(began[Phase::write] - begin),
          .write_seconds = seconds(began[Phase::publish] - began[Phase::write]),
          .publish_seconds = seconds(end - began[Phase::publish]),
          .write = choice};
}

SaveReport save(Comm& comm, Storage& storage, const Path& target, const StateDict& state, const SaveOptions& options) {
  Described mine;
  const SaveSteps steps{.describe = [&]() -> const Described& {
                          mine = describe(state, comm.rank(), comm.size());
                          return mine;
                        },
                        .write =
                            [&](const RankWrites& writes, const Path& staging, const WriteChoice& choice, const Progress& progress) {
                              return write_shards(writes, mine, storage, staging,
                                                  {.threads = choice.threads,
                                                   .mode = choice.mode,
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
