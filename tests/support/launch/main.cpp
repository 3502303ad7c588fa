#include <CLI/CLI.hpp>
#include <iostream>

#include "tessera/base/error.h"
#include "tests/support/launch/launch.h"

int main(int argc, char** argv) {
  tessera::LaunchOptions options;
  double deadline_s = 600;
  double grace_s = 15;
  CLI::App app("Runs N ranks of a command as processes of this machine, with torchrun's variables.", "tessera-launch");
  app.add_option("--ranks", options.ranks, "number of ranks")->required()->check(CLI::Range(1, 1024));
  app.add_option("--deadline", deadline_s, "seconds until all are ended")->capture_default_str();
  app.add_option("--grace", grace_s, "seconds that the others have once a rank failed")->capture_default_str();
  app.add_option("COMMAND", options.command, "after --, the program and its arguments")->required();
  app.positionals_at_end();
  CLI11_PARSE(app, argc, argv);
  const auto milliseconds = [](double seconds) { return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)); };
  options.deadline = milliseconds(deadline_s);
  options.grace = milliseconds(grace_s);
  try {
    return tessera::launch(options, std::cout);
  } catch (const tessera::Error& error) {
    std::cerr << "tessera-launch: error: " << tessera::describe(error.fault()) << "\n";
    return tessera::exit_code(error.code());
  }
}
