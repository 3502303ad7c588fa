// bench/raw_bench.cpp: what the machine itself takes for the bytes of a checkpoint: plain writes to new files and plain reads from a warm
// page cache into memory that exists, at three block sizes, and one pass each of memcpy, XXH3 and CRC-32, by so many threads. Prints one
// JSON object: seconds a round, those of writes and reads by block size.
//   raw_bench --dir DIRECTORY [--bytes N] [--files 1] [--threads 1] [--rounds 1] [--no-fsync] [--only write|read|pass]
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>

#include "bench/measure.h"
#include "tessera/base/digest.h"
#include "tessera/base/error.h"

namespace {

using namespace tessera;
using namespace tessera::bench;

struct Options {
  std::string dir;
  int64_t bytes = int64_t{512} << 20;
  int files = 1;
  int threads = 1;
  int rounds = 1;
  bool no_fsync = false;
  std::string only;
};

constexpr int64_t block_sizes[] = {256 << 10, 1 << 20, 8 << 20};
constexpr int64_t pass_block = 1 << 20;  // what a checksum takes at once, as a save does

// A thread's part: bytes [begin, end) of the memory, which stand at `offset` of a file.
struct Part {
  int file = 0;
  int64_t begin = 0, end = 0, offset = 0;
};

// Every file has an equal share of the bytes, and so has every thread of a file.
std::vector<Part> parts_of(const Options& options) {
  std::vector<Part> parts;
  const int each = options.threads / options.files;
  for (int t = 0; t < options.threads; ++t) {
    const auto cut = [&](int part) { return options.bytes * part / options.threads; };
    parts.push_back({t / each, cut(t), cut(t + 1), cut(t) - cut(t / each * each)});
  }
  return parts;
}

[[noreturn]] void fail(const char* doing, const std::string& file) { throw Error(os_fault(errno ? errno : EIO, doing, file)); }

class File {
 public:
  File(std::string name, int flags) : name_(std::move(name)), descriptor_(::open(name_.c_str(), flags, 0644)) {
    if (descriptor_ < 0) fail("open", name_);
  }
  ~File() { ::close(descriptor_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  void write(const std::byte* from, int64_t count, int64_t at) const { all("write", from, count, at, ::pwrite); }
  void read(std::byte* into, int64_t count, int64_t at) const { all("read", into, count, at, ::pread); }
  void sync() const {
    if (::fsync(descriptor_)) fail("sync", name_);
  }

 private:
  template <class Bytes, class Call>
  void all(const char* doing, Bytes* bytes, int64_t count, int64_t at, Call call) const {
    while (count > 0) {
      const ssize_t done = call(descriptor_, bytes, static_cast<size_t>(count), at);
      if (done <= 0) fail(doing, name_);
      bytes += done, at += done, count -= done;
    }
  }
  std::string name_;
  int descriptor_;
};

// visit(begin, count) block by block.
template <class Visit>
void in_blocks(const Part& part, int64_t block, Visit visit) {
  for (int64_t at = part.begin; at < part.end; at += block) visit(at, std::min(block, part.end - at));
}

void run(const Options& options) {
  if (options.threads % options.files) throw Error({.code = Code::invalid_argument, .what = "the threads must be a multiple of the files"});
  const auto size = static_cast<size_t>(options.bytes);
  std::vector<std::byte> from(size), to(size);
  for (size_t i = 0; i + 8 <= size; i += 8) {
    const uint64_t value = (i + 1) * 0x9e3779b97f4a7c15U;
    std::memcpy(&from[i], &value, 8);
  }
  const auto parts = parts_of(options);
  const auto each_part = [&](auto work) { on_threads(options.threads, [&](int t) { work(parts[static_cast<size_t>(t)]); }); };
  const auto name = [&](int file) { return options.dir + "/raw-" + std::to_string(file); };
  const auto write_all = [&](int64_t block) {
    each_part([&](const Part& part) {
      const File file(name(part.file), O_WRONLY | O_CREAT | O_CLOEXEC);
      in_blocks(part, block,
                [&](int64_t at, int64_t count) { file.write(&from[static_cast<size_t>(at)], count, at - part.begin + part.offset); });
      if (!options.no_fsync) file.sync();
    });
  };
  const auto read_all = [&](int64_t block) {
    each_part([&](const Part& part) {
      const File file(name(part.file), O_RDONLY | O_CLOEXEC);
      in_blocks(part, block,
                [&](int64_t at, int64_t count) { file.read(&to[static_cast<size_t>(at)], count, at - part.begin + part.offset); });
    });
  };
  const auto remove_all = [&] {
    for (int file = 0; file < options.files; ++file) std::filesystem::remove(name(file));
  };
  const auto wanted = [&](const char* what) { return options.only.empty() || options.only == what; };
  std::map<std::string, Costs> write, read, pass;
  for (int round = 0; round < options.rounds; ++round) {
    for (const int64_t block : block_sizes) {
      if (!wanted("write")) break;
      timed(write[std::to_string(block)], [&] { write_all(block); });
      remove_all();
    }
    if (wanted("read")) {
      write_all(1 << 20);
      for (const int64_t block : block_sizes) timed(read[std::to_string(block)], [&] { read_all(block); });
      if (from != to) throw Error({.code = Code::corrupt, .what = "read back other bytes than were written", .file = name(0)});
      remove_all();
    }
    if (wanted("pass")) {
      const auto part_of = [](auto& memory, int64_t at, int64_t count) {
        return std::span(memory).subspan(static_cast<size_t>(at), static_cast<size_t>(count));
      };
      const auto timed_pass = [&](const char* what, auto work) {
        timed(pass[what], [&] { each_part([&](const Part& part) { in_blocks(part, pass_block, work); }); });
      };
      timed_pass("memcpy", [&](int64_t at, int64_t count) { std::ranges::copy(part_of(from, at, count), part_of(to, at, count).begin()); });
      timed_pass("xxh3", [&](int64_t at, int64_t count) { digest(part_of(from, at, count)); });
      timed_pass("crc32", [&](int64_t at, int64_t count) { crc32(part_of(from, at, count)); });
    }
  }
  nlohmann::json out(pass);
  out.update({{"write", write}, {"read", read}, {"bytes", options.bytes}, {"files", options.files}, {"threads", options.threads}});
  std::printf("%s\n", out.dump().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Times plain writes and reads, copies and checksums.");
  app.add_option("--dir", options.dir, "a directory of the file system to measure")->required()->check(CLI::ExistingDirectory);
  app.add_option("--bytes", options.bytes, "in all")->check(CLI::PositiveNumber)->transform(CLI::AsSizeValue(false))->capture_default_str();
  app.add_option("--files", options.files)->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--threads", options.threads, "a multiple of the files")->check(CLI::Range(1, 1024))->capture_default_str();
  app.add_option("--rounds", options.rounds)->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--no-fsync", options.no_fsync, "leave the files unsynced");
  app.add_option("--only", options.only, "time this alone")->check(CLI::IsMember({"write", "read", "pass"}));
  CLI11_PARSE(app, argc, argv);
  return run_program("raw_bench", [&] { run(options); });
}
