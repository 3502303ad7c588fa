#include "tessera/storage/write_probe.h"

#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tessera/base/digest.h"
#include "tessera/base/guarded.h"
#include "tessera/storage/descriptor.h"
#include "tessera/storage/local_file.h"

namespace tessera {
namespace {

using Json = nlohmann::json;

constexpr int64_t piece_bytes = int64_t{1} << 20;  // a block of a data file (transfer/block_file.h)
constexpr int version = 1;                         // of the file that choices are kept in
constexpr double worth = 1.1;  // what is not the default must be faster by so much: these figures vary

// A file system by what mostly stays the same from run to run. Where it does not (NFS, tmpfs and btrfs number their devices as they are
// mounted), what was found is forgotten.
std::optional<std::string> name_of(int descriptor) {
  struct stat status{};
  struct statfs kind{};
  if (::fstat(descriptor, &status) != 0 || ::fstatfs(descriptor, &kind) != 0) return std::nullopt;
  // Homes are shared between machines whose device numbers are alike.
  char host[256] = {};
  ::gethostname(host, sizeof host - 1);
  return std::string(host) + " " + std::to_string(status.st_dev) + " " + std::to_string(static_cast<uint64_t>(kind.f_type));
}

double seconds_to_write(const LocalRoot& root, const std::string& name, const WriteTrial& trial, std::span<const std::byte> piece,
                        int64_t bytes) {
  const Descriptor directory = open_directory(root, "");
  Descriptor file(root.files, root.files.openat(directory.number(), name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
  if (!file) throw Error(os_fault(errno, "create", name));
  // Gone with its descriptor, however this ends.
  if (root.files.unlinkat(directory.number(), name, 0) != 0) throw Error(os_fault(errno, "remove", name));
  const auto begin = std::chrono::steady_clock::now();
  const auto writer = local_writer(std::move(file), name);
  if (!writer->prepare(bytes, trial.mode) && trial.mode == WriteMode::direct) return 0;
  std::atomic<int64_t> next = 0;
  const auto work = [&] {
    return capture([&] {
      for (int64_t at = (next += piece_bytes) - piece_bytes; at < bytes; at = (next += piece_bytes) - piece_bytes) writer->write(at, piece);
    });
  };
  std::vector<Outcome<Done>> done(static_cast<size_t>(trial.threads));
  {
    std::vector<std::jthread> helpers;
    for (size_t t = 1; t < done.size(); ++t) helpers.emplace_back([&, t] { done[t] = work(); });
    done[0] = work();
  }
  for (auto& one : done) {
    if (!one && one.fault.code == Code::unsupported) return 0;
    std::move(one).or_throw();
  }
  writer->close();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Json read_choices() {
  const auto parsed = capture([] {
    Json all = Json::parse(std::ifstream(choices_file()));
    return all.at("version") == version ? all.at("file_systems") : Json::object();
  });
  return parsed && parsed.value->is_object() ? *parsed.value : Json::object();
}

}  // namespace

WriteProbe probe_writes(const std::string& directory, const WriteProbeOptions& options, FileSystem& files) {
  WriteProbe probe;
  for (const WriteMode mode : {WriteMode::buffered, WriteMode::direct}) {
    for (const int threads : {1, 2, 4}) probe.trials.push_back({mode, threads, 0});
  }
  // Bytes that no layer can compress or take for another's.
  std::vector<std::byte> piece(static_cast<size_t>(piece_bytes));
  std::mt19937_64 random(std::random_device{}());
  std::ranges::generate(piece, [&] { return static_cast<std::byte>(random()); });
  const LocalRoot root{files, std::filesystem::absolute(directory).string()};
  std::map<size_t, std::vector<double>> seconds;
  std::vector<size_t> order(probe.trials.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  for (int round = 0; round < options.rounds; ++round) {
    std::ranges::shuffle(order, random);
    for (const size_t i : order) {
      const double took = seconds_to_write(root, ".tessera-probe-" + random_id(), probe.trials[i], piece, options.bytes);
      if (took > 0) seconds[i].push_back(took);
    }
  }
  for (auto& [i, took] : seconds) {
    std::ranges::nth_element(took, took.begin() + static_cast<std::ptrdiff_t>(took.size() / 2));
    probe.trials[i].bytes_per_second = static_cast<double>(options.bytes) / took[took.size() / 2];
  }
  const auto best_of = [&](WriteMode mode) {
    const WriteTrial* best = nullptr;
    for (const WriteTrial& trial : probe.trials) {
      if (trial.mode == mode && (!best || trial.bytes_per_second > best->bytes_per_second)) best = &trial;
    }
    return *best;
  };
  const WriteTrial buffered = best_of(WriteMode::buffered), direct = best_of(WriteMode::direct);
  const bool past = direct.bytes_per_second > worth * buffered.bytes_per_second;
  const WriteTrial& chosen = past ? direct : buffered;
  const auto figure = [](double rate) { return std::to_string(static_cast<int64_t>(rate / (1 << 20))) + " MiB/s"; };
  probe.choice = {.mode = chosen.mode,
                  .threads = chosen.threads,
                  .bytes_per_second = std::max(buffered.bytes_per_second, direct.bytes_per_second),
                  .why = "probed: " + figure(buffered.bytes_per_second) + " through the page cache, " +
                         (direct.bytes_per_second > 0 ? figure(direct.bytes_per_second) + " past it" : "which cannot be passed by")};
  return probe;
}

std::string choices_file() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache && *cache == '/') return std::string(cache) + "/tessera/writes.json";
  if (const char* home = std::getenv("HOME"); home && *home == '/') return std::string(home) + "/.cache/tessera/writes.json";
  return {};
}

std::optional<WriteChoice> known_choice(int descriptor) {
  const auto name = name_of(descriptor);
  if (!name || choices_file().empty()) return std::nullopt;
  const Json all = read_choices();
  const auto found = all.find(*name);
  if (found == all.end()) return std::nullopt;
  const auto choice = capture([&] {
    return WriteChoice{.mode = found->at("mode") == "direct" ? WriteMode::direct : WriteMode::buffered,
                       .threads = std::clamp(found->at("threads").get<int>(), 1, 64),
                       .bytes_per_second = std::clamp(found->at("bytes_per_second").get<double>(), 0.0, 1e15),
                       .why = found->at("why").get<std::string>()};
  });
  return choice ? std::optional(*choice.value) : std::nullopt;
}

void keep_choice(const std::string& directory, const WriteChoice& choice) {
  const std::string file = choices_file();
  if (file.empty()) throw Error({.code = Code::io, .what = "no place to keep what was found", .hint = "set HOME or XDG_CACHE_HOME"});
  const int opened = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (opened < 0) throw Error(os_fault(errno, "open", directory));
  const Descriptor held(posix(), opened);
  const auto name = name_of(opened);
  if (!name) throw Error(os_fault(errno, "stat", directory));
  Json all = read_choices();
  all[*name] = {{"mode", choice.mode == WriteMode::direct ? "direct" : "buffered"},
                {"threads", choice.threads},
                {"bytes_per_second", choice.bytes_per_second},
                {"why", choice.why}};
  std::error_code failed;
  std::filesystem::create_directories(std::filesystem::path(file).parent_path(), failed);
  // A reader sees the old file or the new one.
  const std::string fresh = file + "." + random_id();
  std::ofstream out(fresh);
  out << Json{{"version", version}, {"file_systems", all}}.dump(1) << '\n';
  out.close();
  if (!out || ::rename(fresh.c_str(), file.c_str()) != 0) {
    const Fault fault = os_fault(out ? errno : EIO, "keep what was found", file);
    ::unlink(fresh.c_str());
    throw Error(fault);
  }
}

}  // namespace tessera
