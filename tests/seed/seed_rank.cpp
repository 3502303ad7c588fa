// tests/seed/seed_rank.cpp: the seed's ranks as a program: saves a model, or loads one and compares it bit for bit. The ranks are those of
// the launcher's environment, else `--ranks` threads. Beside a checkpoint it keeps the values that it must have: VALUES/index.json names,
// for each key, the file in VALUES with its row-major bytes. (stock.py writes and reads the same.)
#include <CLI/CLI.hpp>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tessera/checkpoint/load.h"
#include "tessera/checkpoint/save.h"
#include "tests/seed/seed_model.h"

namespace {

using namespace tessera;
using Whole = std::map<std::string, std::vector<std::byte>>;

enum class Verb { save, load, resave };

struct Options {
  Verb verb = Verb::save;
  std::string directory, values, model = "skip";
  Kind kind = Kind::sharded;
  SeedOptions seed;
  int ranks = 1;
  int steps = 0;
};

void write_values(const Whole& whole, const std::string& directory) {
  std::filesystem::create_directories(directory);
  nlohmann::json index;
  for (const auto& [key, bytes] : whole) {
    const std::string file = std::to_string(index.size()) + ".bin";
    index[key] = file;
    std::ofstream(directory + "/" + file, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  std::ofstream(directory + "/index.json") << index;
}

Whole read_values(const std::string& directory) {
  nlohmann::json index;
  std::ifstream(directory + "/index.json") >> index;
  Whole whole;
  for (const auto& [key, file] : index.items()) {
    std::ifstream in(directory + "/" + file.get<std::string>(), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    whole[key] = {as_bytes(bytes).begin(), as_bytes(bytes).end()};
  }
  return whole;
}

// How many of `expected` a model does not have bit for bit; the first few are named.
int differences(const Whole& actual, const Whole& expected, int rank) {
  int count = 0;
  for (const auto& [key, bytes] : expected) {
    const auto found = actual.find(key);
    if (found != actual.end() && found->second == bytes) continue;
    if (++count <= 3)
      std::cout << "rank " << rank << ": '" << key << (found == actual.end() ? "' is missing\n" : "' differs\n") << std::flush;
  }
  return count;
}

int run(Job& job, const Options& options) {
  const auto model = SeedModel::make(options.model, job, options.seed);
  State state = model->state(options.kind);
  if (options.verb == Verb::resave) {
    load(job, options.directory, state);
    save(job, options.values, state);
    return 0;
  }
  if (options.verb == Verb::save) {
    if (options.steps) model->train(options.steps);
    save(job, options.directory, state);
    const Whole whole = model->whole();
    if (job.rank() == 0) write_values(whole, options.values);
    return 0;
  }
  const Whole expected = read_values(options.values);
  if (differences(model->whole(), expected, -1) == 0)
    throw Error({.code = Code::internal, .what = "the two seeds do not differ before the load"});
  load(job, options.directory, state);
  const int count = differences(model->whole(), expected, job.rank());
  if (count == 0 && job.rank() == 0) std::cout << "equal " << expected.size() << " tensors on " << job.size() << " ranks\n" << std::flush;
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Saves a seed model, or loads one and compares.");
  const std::map<std::string, Kind> kinds = {{"full", Kind::full}, {"sharded", Kind::sharded}, {"local", Kind::local}};
  const std::map<std::string, Verb> verbs = {{"save", Verb::save}, {"load", Verb::load}, {"resave", Verb::resave}};
  app.add_option("VERB", options.verb, "resave: load from DIRECTORY and save to VALUES")
      ->required()
      ->transform(CLI::CheckedTransformer(verbs));
  app.add_option("DIRECTORY", options.directory)->required();
  app.add_option("VALUES", options.values)->required();
  app.add_option("--model", options.model);
  app.add_option("--kind", options.kind)->transform(CLI::CheckedTransformer(kinds));
  app.add_option("--seed", options.seed.seed);
  app.add_option("--alignment-bytes", options.seed.alignment_bytes);
  app.add_flag("--optim", options.seed.optim);
  app.add_option("--rule", options.seed.rule, "of the optimizer: adamw, adam, sgd, adagrad");
  app.add_option("--steps", options.steps);
  app.add_option("--ranks", options.ranks);
  CLI11_PARSE(app, argc, argv);
  try {
    std::atomic<int> differ = 0;
    if (launched()) {
      Job job = join();
      differ = run(job, options);
    } else {
      run_ranks(options.ranks, [&](Job& job) { differ += run(job, options); });
    }
    return differ ? 1 : 0;
  } catch (const std::exception& failure) {
    const Fault fault = fault_of(std::current_exception());
    std::cerr << "tessera: error: " + describe(fault) + "\n";
    return exit_code(fault.code);
  }
}
