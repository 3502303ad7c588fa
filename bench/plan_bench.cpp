// bench/plan_bench.cpp: what planning costs, in CPU seconds of one process: the state of shared/peers/dcp_plan.py, tensors of fp32 that are
// split along dimension 0, a chunk a rank. Prints one JSON object with minimum and median of the rounds.
//   cold       from layouts: plan, validate, encode the metadata; at --ranks and at --many-ranks
//   described  from descriptions that the ranks sent: decode, plan, validate, encode each rank's orders and the metadata
//   one_rank   from layouts: what one rank needs in order to write, without a manifest
//   warm       a cached plan once more: the digest of a rank's description, the new save's id in plan and metadata, the metadata's digest
//   index      the sidecar's index, which a first save encodes too
//   load_plan  of one rank: which parts of which chunks it reads
//   plan_bench [--ranks 256] [--many-ranks 2048] [--tensors 1024] [--rounds 7]
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "bench/measure.h"
#include "tessera/format/dcp.h"
#include "tessera/format/sidecar_index.h"
#include "tessera/plan/load_plan.h"
#include "tessera/plan/save_plan.h"

namespace {

using namespace tessera;
using bench::cpu_seconds;
using nlohmann::json;

constexpr int64_t rows = 8;
constexpr int64_t columns = 16;
const std::string save_id(32, 'a');

// CPU seconds of `work`, those of all its threads together, and by the clock; what it returns is destroyed outside the measurement.
template <class Work>
json timed(int rounds, Work work) {
  std::vector<double> seconds, clock;
  for (int round = 0; round < rounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    const double cpu = cpu_seconds();
    [[maybe_unused]] const auto made = work();
    seconds.push_back(cpu_seconds() - cpu);
    clock.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::ranges::sort(seconds);
  std::ranges::sort(clock);
  return {{"min_s", seconds.front()}, {"median_s", seconds[seconds.size() / 2]}, {"wall_median_s", clock[clock.size() / 2]}};
}

LayoutTable job(int ranks, int tensors) {
  LayoutTable table{.ranks = ranks, .entries = {}};
  for (int i = 0; i < tensors; ++i) {
    const std::string key = "layers." + std::to_string(i) + ".weight";
    LayoutTable::Tensor tensor{DType::float32, {ranks * rows, columns}, Grid{{{ranks, 0}}}};
    table.entries.emplace(key, LayoutTable::Entry{{key}, std::move(tensor)});
  }
  return table;
}

struct Planned {
  SavePlan plan;
  Bytes metadata;
  std::vector<Bytes> orders;
};

Planned plan_cold(const LayoutTable& table, const std::vector<Description>& locals) {
  Planned planned{plan_save(table, locals, save_id), {}, {}};
  planned.metadata = format::encode_metadata(planned.plan.manifest);
  return planned;
}

Planned plan_described(const std::vector<Bytes>& sent) {
  std::vector<Description> descriptions;
  for (const Bytes& bytes : sent) descriptions.push_back(decode_description(bytes));
  Planned planned{plan_save(descriptions, save_id), {}, {}};
  for (const RankWrites& writes : planned.plan.ranks) planned.orders.push_back(encode(writes));
  planned.metadata = format::encode_metadata(planned.plan.manifest);
  return planned;
}

std::vector<std::vector<ChunkRead>> plan_load(const Manifest& manifest, int rank) {
  std::vector<std::vector<ChunkRead>> reads;
  for (const auto& [key, entry] : manifest.entries)
    reads.push_back(cut(std::get<TensorEntry>(entry.is), {{rank * rows, 0}, {rows, columns}}));
  return reads;
}

}  // namespace

int main(int argc, char** argv) {
  int ranks = 256, many_ranks = 2048, tensors = 1024, rounds = 7;
  CLI::App app("What planning costs");
  app.add_option("--ranks", ranks)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--many-ranks", many_ranks, "0 leaves it out")->check(CLI::NonNegativeNumber)->capture_default_str();
  app.add_option("--tensors", tensors)->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--rounds", rounds)->check(CLI::PositiveNumber)->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    const LayoutTable table = job(ranks, tensors);
    const std::vector<Description> locals(static_cast<size_t>(ranks));
    json out = {{"ranks", ranks}, {"tensors", tensors}, {"chunks", int64_t{ranks} * tensors}, {"rounds", rounds}};
    out["cold"] = timed(rounds, [&] { return plan_cold(table, locals); });
    out["one_rank"] = timed(rounds, [&] { return writes_of(table, locals, ranks / 2); });
    {
      std::vector<Bytes> sent;
      for (int r = 0; r < ranks; ++r) sent.push_back(encode(description_of(table, r)));
      out["described"] = timed(rounds, [&] { return plan_described(sent); });
    }
    Planned planned = plan_cold(table, locals);
    out["metadata_bytes"] = planned.metadata.size();
    const Description mine = description_of(table, 0);
    out["warm"] = timed(rounds, [&] {
      planned.plan.manifest.save_id = std::string(32, 'b');
      format::set_save_id(planned.metadata, planned.plan.manifest.save_id);
      return std::pair(shape_digest(mine), digest(planned.metadata));
    });
    std::vector<std::string> files;
    for (const RankWrites& writes : planned.plan.ranks) files.push_back(writes.file);
    std::ranges::sort(files);
    out["index"] = timed(rounds, [&] { return format::encode_index(planned.plan.manifest, files); });
    out["load_plan"] = timed(rounds, [&] { return plan_load(planned.plan.manifest, ranks / 2); });
    planned = {};
    if (many_ranks > 0) {
      const LayoutTable large = job(many_ranks, tensors);
      const std::vector<Description> none(static_cast<size_t>(many_ranks));
      out["many"] = {{"ranks", many_ranks}, {"chunks", int64_t{many_ranks} * tensors}};
      out["many"]["cold"] = timed(rounds, [&] { return plan_cold(large, none); });
      out["many"]["one_rank"] = timed(rounds, [&] { return writes_of(large, none, many_ranks / 2); });
    }
    std::printf("%s\n", out.dump(2).c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "plan_bench: %s\n", error.what());
    return 1;
  }
}
