#include "tests/crash/scenarios.h"

#include <cstdio>

namespace tessera {
namespace {

// A small piece a call, so that a file takes several writes and there is more to tear.
constexpr int64_t piece_bytes = 700;

void first_save(SimDisk&, Job& job) { job.save("c"); }
bool save_again(Job& job) { return job.save("c", Replace::exchange); }

// Runs somebody else's directory as a mount point, so that it can only be filled from inside.
void mount_target(SimDisk& disk, Job&) {
  disk.mkdirat(AT_FDCWD, jobs_root, 0755);
  disk.mkdirat(AT_FDCWD, std::string(jobs_root) + "/c", 0755);
  disk.mount(std::string(jobs_root) + "/c");
}

std::vector<Scenario> make() {
  const SimDiskOptions able{.most_bytes = piece_bytes};
  const SimDiskOptions no_exchange{.exchange = false, .most_bytes = piece_bytes};
  const SimDiskOptions no_flags{.exchange = false, .no_replace = false, .most_bytes = piece_bytes};
  const auto two_steps = [](SimDisk&, Job& job) { job.save_step(1) && job.save_step(2); };
  const auto next_step = [](int keep_last) { return [=](Job& job) { return job.save_next_step(keep_last); }; };
  const auto anew = [](const char* ending) { return [=](Job& job) { return job.convert_anew("c", ending); }; };
  return {
      {"the first save of all", able, {}, [](Job& job) { return job.save_step(1); }, next_step(0)},
      {"a save beside older steps", able, two_steps, next_step(0), next_step(0)},
      {"three saves in a row", able, {}, [](Job& job) { return job.save_step(1) && job.save_step(2) && job.save_step(3); }, next_step(0)},
      {"an overwrite by exchange", able, first_save, save_again, save_again},
      {"an overwrite that may have a gap, by exchange", able, first_save, [](Job& job) { return job.save("c", Replace::with_gap); },
       save_again},
      {"an overwrite with a gap", no_exchange, first_save, [](Job& job) { return job.save("c", Replace::with_gap); },
       [](Job& job) { return job.save("c", Replace::with_gap); }},
      {"a commit inside the target", able, mount_target, [](Job& job) { return job.save("c"); }, [](Job& job) { return job.save("c"); },
       true},
      {"a commit inside the target, by links", no_flags, mount_target, [](Job& job) { return job.save("c"); },
       [](Job& job) { return job.save("c"); }, true},
      {"retention of one", able, two_steps, next_step(1), next_step(1)},
      {"retention of two, four times", able, two_steps,
       [](Job& job) { return job.save_step(3, 2) && job.save_step(4, 2) && job.save_step(5, 2); }, next_step(2)},
      {"a conversion to a directory", able, first_save, [](Job& job) { return job.convert("c", "out", 2); }, anew(""), false, false},
      {"a conversion to safetensors", able, first_save, [](Job& job) { return job.convert("c", "out.safetensors"); }, anew(".safetensors"),
       false, false},
      {"a conversion to torch.save", no_flags, first_save, [](Job& job) { return job.convert("c", "out.pt"); }, anew(".pt"), false, false},
  };
}

}  // namespace

const std::vector<Scenario>& scenarios() {
  static const std::vector<Scenario> all = make();
  return all;
}

Start start_of(const Scenario& scenario, int ranks) {
  SimDisk disk(scenario.disk);
  Job job(disk, disk, ranks);
  if (scenario.before) scenario.before(disk, job);
  Promises promises = job.promises();
  for (Promise& promise : promises) {
    if (!promise.kept) throw Error({.code = Code::internal, .what = "what comes before '" + scenario.name + "' failed"});
    promise.begun = 0;
    promise.kept = 0;
  }
  return {disk.image(), std::move(promises)};
}

void print(const Counts& counts, const std::string& what) {
  std::printf("%s: %lld tried, %lld broke a promise\n", what.c_str(), static_cast<long long>(counts.tried),
              static_cast<long long>(counts.broken));
}

}  // namespace tessera
