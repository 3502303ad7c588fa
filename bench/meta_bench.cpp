// bench/meta_bench.cpp: what it costs to learn what a checkpoint holds: decoding `.metadata`, stock's and ours, and finding one key
// through the sidecar's index without decoding it (each round opens the checkpoint afresh, the files being in the page cache). CPU
// seconds of one thread, and wall seconds where there is I/O. Prints one JSON object.
//   meta_bench [--metadata FILE] [--ranks 256] [--tensors 1024] [--rounds 5] [--dir DIRECTORY]

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "bench/measure.h"
#include "tessera/checkpoint/checkpoint.h"
#include "tessera/format/dcp.h"
#include "tessera/format/sidecar_index.h"

namespace {

using namespace tessera;
using bench::cpu_seconds;

struct Options {
  std::string metadata;
  int64_t ranks = 256;
  int64_t tensors = 1024;
  int rounds = 5;
  std::string dir;
};

constexpr int64_t item_bytes = 2048;

nlohmann::json summary(std::vector<double> seconds) {
  std::ranges::sort(seconds);
  return {{"min_s", seconds.front()}, {"median_s", seconds[seconds.size() / 2]}};
}

nlohmann::json timed(int rounds, const std::function<void()>& work) {
  std::vector<double> cpu;
  std::vector<double> wall;
  for (int round = 0; round < rounds; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    const double cpu_begin = cpu_seconds();
    work();
    cpu.push_back(cpu_seconds() - cpu_begin);
    wall.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return {{"cpu", summary(cpu)}, {"wall", summary(wall)}};
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
  constexpr int64_t rows = 8, columns = 16;
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

// What a save of the manifest would leave beside `.metadata`; the digests of the data files are of nothing.
format::Sidecar sidecar_of(const Manifest& manifest, const Bytes& metadata, const Options& options) {
  format::Sidecar sidecar{.save_id = manifest.save_id,
                          .metadata_bytes = static_cast<int64_t>(metadata.size()),
                          .metadata = digest(metadata),
                          .metadata_ends = format::digest_of_ends(metadata),
                          .block_bytes = int64_t{1} << 20,
                          .files = {},
                          .metrics = {}};
  const int64_t length = options.tensors * item_bytes;
  for (int64_t r = 0; r < options.ranks; ++r)
    sidecar.files["__" + std::to_string(r) + "_0.distcp"] = {
        length, std::vector<Digest>(static_cast<size_t>(format::block_count(length, sidecar.block_bytes)))};
  return sidecar;
}

std::vector<std::string> names_of(const format::Sidecar& sidecar) {
  std::vector<std::string> names;
  for (const auto& [name, digests] : sidecar.files) names.push_back(name);
  return names;
}

void write(const std::filesystem::path& file, const Bytes& bytes) {
  std::ofstream out(file, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out) throw Error({.code = Code::io, .what = "cannot be written", .file = file.string()});
}

void run(const Options& options) {
  const Manifest manifest = manifest_of(options);
  const Bytes ours = format::encode_metadata(manifest);
  const format::Sidecar sidecar = sidecar_of(manifest, ours, options);
  const std::vector<std::string> files = names_of(sidecar);
  const Bytes index = format::encode_index(manifest, files);
  const Bytes encoded = format::encode_sidecar(sidecar, index);
  nlohmann::json out{{"ranks", options.ranks},   {"tensors", options.tensors}, {"chunks", options.ranks * options.tensors},
                     {"rounds", options.rounds}, {"ours_bytes", ours.size()},  {"sidecar_bytes", encoded.size()}};
  out["decode_ours"] = timed(options.rounds, [&] { format::decode_metadata(ours); });
  if (!options.metadata.empty()) {
    const Bytes given = bytes_of(options.metadata);
    out["given_bytes"] = given.size();
    out["decode_given"] = timed(options.rounds, [&] { format::decode_metadata(given); });
  }
  out["encode_index"] = timed(options.rounds, [&] { format::encode_index(manifest, files); });
  out["encode_sidecar"] = timed(options.rounds, [&] { format::encode_sidecar(sidecar, index); });

  const std::filesystem::path root = options.dir.empty() ? std::filesystem::temp_directory_path() : std::filesystem::path(options.dir);
  const std::filesystem::path directory = root / ("meta_bench-" + random_id());
  std::filesystem::create_directories(directory);
  write(directory / format::metadata_file, ours);
  write(directory / format::sidecar_file, encoded);
  const auto first_key = [&](int64_t tensor) {
    const std::string key = "layers." + std::to_string(tensor) + ".weight";
    const Checkpoint checkpoint = Checkpoint::open(directory.string(), {.keys = {key}});
    if (checkpoint.tensor(key) != std::get<TensorEntry>(manifest.entries.at(key).is))
      throw Error({.code = Code::internal, .what = "the index told something else of " + key});
  };
  int64_t next = 0;
  out["first_key"] = timed(options.rounds, [&] { first_key(next++ * 37 % options.tensors); });
  std::filesystem::remove_all(directory);
  std::printf("%s\n", out.dump(1).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("What it costs to learn what a checkpoint holds");
  app.add_option("--metadata", options.metadata, "A `.metadata` to decode beside ours, as one of stock's");
  app.add_option("--ranks", options.ranks)->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--tensors", options.tensors)->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--dir", options.dir, "Where to write a head to find a key in; the temporary directory by default");
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
