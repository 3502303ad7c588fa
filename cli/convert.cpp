#include "cli/convert.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "cli/places.h"
#include "cli/text.h"
#include "tessera/base/human_bytes.h"

namespace tessera::cli {
namespace {

// A line on the terminal that is written again now and then.
class ProgressLine {
 public:
  void show(int64_t done, int64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (done < total && now - shown_ < std::chrono::milliseconds(200)) return;
    shown_ = now;
    const std::chrono::duration<double> took = now - begin_;
    const auto each_second = static_cast<int64_t>(static_cast<double>(done) / std::max(took.count(), 1e-3));
    const std::string line = fmt::format("convert {:3d} %  {} of {}  {}/s", total > 0 ? 100 * done / total : 100, human_bytes(done),
                                         human_bytes(total), human_bytes(each_second));
    std::fprintf(stderr, "\r%s\033[K", line.c_str());
    open_ = true;
  }
  ~ProgressLine() {
    if (open_) std::fputc('\n', stderr);
  }

 private:
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point shown_;
  bool open_ = false;
};

Error usage(std::string what, std::string hint) {
  return Error({.code = Code::invalid_argument, .what = std::move(what), .hint = std::move(hint)});
}

Format format_of(const std::string& name) {
  if (name == "dcp") return Format::dcp;
  if (name == "safetensors") return Format::safetensors;
  if (name == "torch") return Format::torch_save;
  throw usage("no format is named '" + name + "'", "there are dcp, safetensors and torch");
}

CastRule rule_of(const std::string& text) {
  const size_t equals = text.rfind('=');
  const std::string name = equals == std::string::npos ? text : text.substr(equals + 1);
  const auto dtype = dtype_named(name);
  if (!dtype) throw usage("no dtype is named '" + name + "'", "as in --dtype bfloat16 or --dtype 'model.*=float16'");
  return {equals == std::string::npos ? "*" : text.substr(0, equals), *dtype};
}

Rename rename_of(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos)
    throw usage("'" + text + "' renames nothing", "as in --rename '^model\\.=' or --rename '(.*)\\.w=$1.weight'");
  return {text.substr(0, equals), text.substr(equals + 1)};
}

}  // namespace

Output convert(const ConvertCommand& command) {
  const NamedCheckpoint source = open_checkpoint(plain_path(command.source), {.rank = command.rank});
  ConvertOptions options = command.options;
  if (!command.to.empty()) options.to = format_of(command.to);
  for (const std::string& text : command.dtypes) options.casts.push_back(rule_of(text));
  std::vector<Rename> renames;
  for (const std::string& text : command.renames) renames.push_back(rename_of(text));
  ProgressLine line;
  if (::isatty(STDERR_FILENO)) {
    options.progress = [&](int64_t done, int64_t total) { line.show(done, total); };
  }
  const std::string target = plain_path(command.target);
  const ConvertReport report = tessera::convert(source.checkpoint().renamed(renames), target, options);
  std::string text = fmt::format("{}: {} tensors, {} objects, {} as {} in {:.1f} s\n", printable(target), report.tensors, report.objects,
                                 human_bytes(report.bytes), name(report.format), report.seconds);
  if (report.unverified_bytes > 0) text += fmt::format("{} of the source had no checksum to check\n", human_bytes(report.unverified_bytes));
  return {text};
}

}  // namespace tessera::cli
