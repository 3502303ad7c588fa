// save_program WHAT DIRECTORY: saves, acknowledging each save on stdout, until it is done or killed (kill.py).
// save_program WHAT DIRECTORY --check N: exits with 0 if what the first N acknowledgements promised is there and whole, and nothing half
// there is taken for a checkpoint; else says what is not and exits with 1.
//   steps      four steps of a root that keeps two
//   overwrite  one directory, three times, by exchange
//   convert    a checkpoint into a directory, a safetensors file and a torch.save file
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <string_view>

#include "tessera/checkpoint/checkpoints.h"
#include "tessera/comm/thread_comm.h"
#include "tessera/exchange/convert.h"
#include "tessera/storage/local_storage.h"
#include "tests/crash/tiny_state.h"

namespace tessera {
namespace {

constexpr int64_t saves = 4;
constexpr int keep_last = 2;

struct Program {
  std::string directory;
  std::shared_ptr<LocalStorage> storage = std::make_shared<LocalStorage>(directory);
  std::unique_ptr<Comm> comm = std::move(thread_comms(1).front());

  void acknowledge() {
    std::puts("saved");
    std::fflush(stdout);
  }
  int64_t version(const Path& path) const { return version_at(storage, path); }
  void expect(bool right, const std::string& what) const {
    if (!right) throw Error({.code = Code::mismatch, .what = what});
  }

  void steps() {
    Checkpoints root(*comm, storage, {.keep_last = keep_last});
    for (Step step = root.latest().value_or(0) + 1; step <= saves; ++step) {
      root.save(step, TinyState(0, 1, step).state);
      acknowledge();
    }
  }
  void check_steps(int64_t acknowledged) {
    Checkpoints root(*comm, storage);
    const int64_t latest = root.latest().value_or(0);
    expect(latest == acknowledged || latest == acknowledged + 1, "latest is " + std::to_string(latest));
    expect(root.skipped().empty(), "a step is half there");
    for (const Step step : steps_of(*storage)) expect(version(step_name(step)) == step, "another version of a step");
    for (Step step = std::max<Step>(1, latest - keep_last + 1); step <= latest; ++step)
      expect(version(step_name(step)) == step, "a step is lost");
  }

  void overwrite() {
    for (int64_t next = version("c") + 1; next <= saves; ++next) {
      save(*comm, *storage, "c", TinyState(0, 1, next).state, {.replace = Replace::exchange});
      acknowledge();
    }
  }
  void check_overwrite(int64_t acknowledged) {
    const int64_t found = version("c");
    expect(found == acknowledged || found == acknowledged + 1, "version " + std::to_string(found));
  }

  static constexpr const char* targets[] = {"source", "directory", "file.safetensors", "file.pt"};
  void convert_all() {
    for (const char* target : targets) {
      if (version(target) != 0) continue;
      if (target == targets[0]) save(*comm, *storage, target, TinyState(0, 1, 1).state);
      else convert(Checkpoint::open(storage, targets[0]), *storage, target, {.tensors_only = std::string_view(target).ends_with("s")});
      acknowledge();
    }
  }
  void check_convert(int64_t acknowledged) {
    int64_t there = 0;
    for (const char* target : targets) there += version(target);
    expect(there == acknowledged || there == acknowledged + 1, std::to_string(there) + " are there");
  }
};

int run(int count, char** arguments) {
  const std::map<std::string_view, std::pair<void (Program::*)(), void (Program::*)(int64_t)>> all = {
      {"steps", {&Program::steps, &Program::check_steps}},
      {"overwrite", {&Program::overwrite, &Program::check_overwrite}},
      {"convert", {&Program::convert_all, &Program::check_convert}},
  };
  Program program{arguments[2]};
  const auto& [work, check] = all.at(arguments[1]);
  if (count > 4) (program.*check)(std::atoll(arguments[4]));
  else (program.*work)();
  return 0;
}

}  // namespace
}  // namespace tessera

int main(int count, char** arguments) {
  if (count != 3 && count != 5) return 2;
  try {
    return tessera::run(count, arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "save_program: %s\n", error.what());
    return 1;
  }
}
