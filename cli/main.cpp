// tessera: looks into checkpoints, without LibTorch, Python or ranks. One file per command; this one reads the command
// line, prints what a command made, and turns a failure into one line that says where and why, and one that says what next.
// Exit codes  0 fine, 1 differs or damaged, 2 usage, 3 input or output.
#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <functional>

#include "cli/convert.h"
#include "cli/diff.h"
#include "cli/gc.h"
#include "cli/ls.h"
#include "cli/probe.h"
#include "cli/steps.h"
#include "cli/text.h"
#include "cli/verify.h"
#include "tessera/base/error.h"
#include "tessera/checkpoint/trace_file.h"

namespace tessera::cli {
namespace {

int report(const Fault& fault) {
  std::fprintf(stderr, "tessera: error: %s\n", printable(describe(fault)).c_str());
  if (!fault.hint.empty()) std::fprintf(stderr, "tessera: hint: %s\n", printable(fault.hint).c_str());
  return exit_code(fault.code);
}

void print(const std::string& text) {
  errno = 0;
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!written) throw Error(os_fault(errno, "write to standard output"));
}

int run(int argc, char** argv) {
  CLI::App app("tessera: look into checkpoints and convert them: sharded (torch.distributed.checkpoint), safetensors, torch.save",
               "tessera");
  app.set_version_flag("--version", std::string("tessera ") + TESSERA_VERSION);
  app.require_subcommand(1);
  app.footer("Exit codes: 0 fine, 1 differs or damaged, 2 usage, 3 input or output.");
  std::function<Output()> command;

  LsOptions ls_options;
  CLI::App* ls_app = app.add_subcommand("ls", "List what a checkpoint holds, or the steps of a root of steps");
  ls_app->add_option("PATH", ls_options.path, "A checkpoint (DCP directory, safetensors, torch.save file), or a root of steps")->required();
  ls_app->add_option("KEY", ls_options.keys, "Only these keys; where the checkpoint has an index, the rest is not read");
  ls_app->add_flag("--json", ls_options.json, "Print {\"entries\": {key: ...}} instead of a table");
  ls_app->add_flag("--digest", ls_options.digest, "Read every tensor and add the SHA-256 of its row-major bytes");
  ls_app->add_option("--rank", ls_options.rank, "Whose part to list, where each rank saved for itself")->capture_default_str();
  ls_app->callback([&] { command = [&] { return ls(ls_options); }; });

  std::string path_a;
  std::string path_b;
  CLI::App* diff_app = app.add_subcommand("diff", "Compare two checkpoints bit for bit, however they are sharded");
  diff_app->add_option("A", path_a, "A checkpoint of any format")->required();
  diff_app->add_option("B", path_b, "Another")->required();
  diff_app->callback([&] { command = [&] { return diff(path_a, path_b); }; });

  ConvertCommand conversion;
  bool replace = false;
  CLI::App* convert_app = app.add_subcommand("convert", "Write a checkpoint in another format, in bounded memory");
  convert_app
      ->add_option("SRC", conversion.source, "A DCP directory, a directory of safetensors files, or a file of safetensors or torch.save")
      ->required();
  convert_app->add_option("DST", conversion.target, "What to write: *.safetensors, *.pt, *.pth, *.bin; a directory in any other case")
      ->required();
  convert_app->add_option("--to", conversion.to, "dcp, safetensors or torch, where DST's name does not say it");
  convert_app
      ->add_option("--keys", conversion.options.filter.keys,
                   "Take only keys that match this pattern; '*' and '?' as in a shell; may be given again")
      ->allow_extra_args(false);
  convert_app->add_option("--exclude", conversion.options.filter.exclude, "Leave out keys that match this pattern; may be given again")
      ->allow_extra_args(false);
  convert_app->add_flag("--tensors-only", conversion.options.tensors_only, "Leave out objects");
  convert_app->add_option("--dtype", conversion.dtypes, "Convert floating-point tensors: bfloat16, or PATTERN=bfloat16")
      ->allow_extra_args(false);
  convert_app->add_option("--rename", conversion.renames, "REGEX=REPLACEMENT on every key, in the order given")->allow_extra_args(false);
  convert_app->add_option("--ranks", conversion.options.ranks, "DCP: shard by rows into this many files")->capture_default_str();
  convert_app->add_option("--rank", conversion.rank, "Whose part to read, where each rank saved for itself")->capture_default_str();
  convert_app->add_option("--file-size", conversion.options.file_bytes, "safetensors directory: about this many bytes a file")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("5GiB");
  convert_app->add_option("--memory", conversion.options.memory_bytes, "How much memory the work may take")
      ->transform(CLI::AsSizeValue(false))
      ->default_str("256MiB");
  convert_app->add_flag("--replace", replace, "Replace the checkpoint or file at DST; never a root of steps or other files");
  convert_app->callback([&] {
    command = [&] {
      conversion.options.replace = replace ? Replace::exchange : Replace::never;
      return convert(conversion);
    };
  });

  VerifyCommand verification;
  CLI::App* verify_app =
      app.add_subcommand("verify", "Check a checkpoint, or each step of a root, against its digests, checksums and sizes");
  verify_app->add_option("PATH", verification.path, "A checkpoint of any format, or a root of steps")->required();
  verify_app->add_flag("--quick", verification.quick, "Names and sizes only");
  verify_app->add_option("--threads", verification.threads, "Threads that read")->capture_default_str();
  verify_app->add_flag("--json", verification.json, "Print one object instead of a table");
  verify_app->callback([&] { command = [&] { return verify(verification); }; });

  StepsCommand listing;
  bool quick_listing = false;
  CLI::App* steps_app = app.add_subcommand("steps", "List the steps of a root, whether they are sound, and what is left over");
  steps_app->add_option("ROOT", listing.root, "A directory of steps")->required();
  CLI::Option* full = steps_app->add_flag("--full", listing.full, "Read every byte");
  steps_app->add_flag("--quick", quick_listing, "Names and sizes only, which is the default")->excludes(full);
  steps_app->add_flag("--json", listing.json, "Print {\"steps\": {name: ...}, \"leftovers\": [...]} instead of a table");
  steps_app->callback([&] { command = [&] { return steps(listing); }; });

  GcCommand cleaning;
  CLI::App* gc_app = app.add_subcommand("gc", "Remove what saves that were cut short left behind, and steps that no rule keeps");
  gc_app->add_option("ROOT", cleaning.root, "A root of steps, the directory that a checkpoint lies in, or one that holds a half save")
      ->required();
  gc_app->add_flag("--dry-run", cleaning.dry_run, "Only say what would be removed");
  gc_app->add_option("--older-than", cleaning.older_than, "Leave what changed since: 90s, 30m, 2h, 7d; 0 if no save is at work")
      ->capture_default_str();
  gc_app->add_option("--keep-last", cleaning.rules.keep_last, "Keep the newest so many steps");
  gc_app->add_option("--keep-every", cleaning.rules.keep_every, "Keep the steps that this divides");
  gc_app->add_option("--keep-best", cleaning.keep_best, "METRIC[:COUNT][:higher]: keep the best by what the trainer measured");
  gc_app->callback([&] { command = [&] { return gc(cleaning); }; });

  ProbeCommand probing;
  CLI::App* probe_app = app.add_subcommand("probe", "Measure how a file system is best written to, some seconds, and keep it for saves");
  probe_app->add_option("DIR", probing.directory, "A directory on it")->required();
  probe_app->add_flag("--explain", probing.explain, "Measure nothing: say what saves do there, and why");
  probe_app->add_flag("--json", probing.json, "Print one object instead of a table");
  probe_app->callback([&] { command = [&] { return probe(probing); }; });

  std::string trace;
  for (CLI::App* one : {convert_app, verify_app})
    one->add_option("--trace", trace, "Write what every thread did to this file, for Perfetto or chrome://tracing");

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& wanted) {  // --help and --version
    return app.exit(wanted);
  } catch (const CLI::ParseError& error) {
    return report({.code = Code::invalid_argument,
                   .what = error.what(),
                   .hint = "tessera --help lists the commands, tessera COMMAND --help the options"});
  }
  TraceFile recording(trace);
  const Output output = command();
  recording.finish();
  print(output.text);
  return output.exit_code;
}

}  // namespace
}  // namespace tessera::cli

int main(int argc, char** argv) {
  try {
    return tessera::cli::run(argc, argv);
  } catch (...) {
    return tessera::cli::report(tessera::fault_of(std::current_exception()));
  }
}
