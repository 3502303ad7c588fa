// bench/meta_bench.cpp: what it costs to learn what a checkpoint holds: decoding `.metadata`, stock's and ours, and finding one key
// through the sidecar's index without decoding it. CPU seconds, one thread. Prints one JSON object.
//   meta_bench [--metadata FILE] [--ranks 256] [--tensors 1024] [--rounds 5] [--dir DIRECTORY]
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "tessera/format/dcp.h"

namespace {

using namespace tessera;

struct Options {
  std::string metadata;
  int64_t ranks = 256;
  int64_t tensors = 1024;
  int rounds = 5;
};

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

nlohmann::json timed(int rounds, const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int round = 0; round < rounds; ++round) {
    const double begin = cpu_seconds();
    work();
    seconds.push_back(cpu_seconds() - begin);
  }
  std::ranges::sort(seconds);
  return {{"min_s", seconds.front()}, {"median_s", seconds[seconds.size() / 2]}};
}

Bytes bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  if (!in) throw Error({.code = Code::not_found, .what = "no such file", .file = path});
  Bytes bytes(static_cast<size_t>(in.tellg()));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

// Every tensor cut into equal rows, one chunk a rank, as FSDP leaves it.
Manifest manifest_of(const Options& options) {
  constexpr int64_t rows = 8, columns = 16, item_bytes = 2048;
  Manifest manifest;
  for (int64_t t = 0; t < options.tensors; ++t) {
    const std::string key = "layers." + std::to_string(t) + ".weight";
    TensorEntry tensor{DType::float32, {options.ranks * rows, columns}, {}};
    for (int64_t r = 0; r < options.ranks; ++r) {
      const std::string file = "__" + std::to_string(r) + "_0.distcp";
      tensor.chunks.push_back({{{r * rows, 0}, {rows, columns}}, {file, t * item_bytes, item_bytes, {}}});
    }
    Entry& entry = manifest.entries[key];
    entry.path.emplace_back(key);
    entry.is = std::move(tensor);
  }
  manifest.writer_version = 1;
  manifest.save_id = "0123456789abcdef0123456789abcdef";
  return manifest;
}

void run(const Options& options) {
  nlohmann::json out{
      {"ranks", options.ranks}, {"tensors", options.tensors}, {"chunks", options.ranks * options.tensors}, {"rounds", options.rounds}};
  const Bytes ours = format::encode_metadata(manifest_of(options));
  out["ours_bytes"] = ours.size();
  out["decode_ours"] = timed(options.rounds, [&] { format::decode_metadata(ours); });
  if (!options.metadata.empty()) {
    const Bytes stock = bytes_of(options.metadata);
    out["given_bytes"] = stock.size();
    out["decode_given"] = timed(options.rounds, [&] { format::decode_metadata(stock); });
  }
  std::printf("%s\n", out.dump(1).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("What it costs to learn what a checkpoint holds");
  app.add_option("--metadata", options.metadata, "A `.metadata` to decode beside ours, as one of stock's");
  app.add_option("--ranks", options.ranks)->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--tensors", options.tensors)->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
    return 0;
  } catch (...) {
    std::fprintf(stderr, "meta_bench: %s\n", describe(fault_of(std::current_exception())).c_str());
    return 1;
  }
}
