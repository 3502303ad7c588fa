#include "cli/probe.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/places.h"
#include "cli/table.h"
#include "cli/text.h"
#include "tessera/base/human_bytes.h"
#include "tessera/storage/local_storage.h"
#include "tessera/storage/write_probe.h"

namespace tessera::cli {
namespace {

std::string rate(double bytes_per_second) {
  return bytes_per_second > 0 ? human_bytes(static_cast<int64_t>(bytes_per_second)) + "/s" : std::string("cannot");
}

nlohmann::json as_json(const WriteChoice& choice) {
  return {{"mode", name(choice.mode)}, {"threads", choice.threads}, {"bytes_per_second", choice.bytes_per_second}, {"why", choice.why}};
}

std::string as_text(const WriteChoice& choice, const std::string& directory) {
  return fmt::format("saves to {} write {}, {}\n  {}\n", printable(directory),
                     choice.mode == WriteMode::direct ? "past the page cache" : "through the page cache",
                     choice.threads > 0 ? fmt::format("with {} thread{} a rank", choice.threads, choice.threads == 1 ? "" : "s")
                                        : std::string("with a share of the cores as threads"),
                     printable(choice.why));
}

}  // namespace

Output probe(const ProbeCommand& command) {
  const std::string directory = plain_path(command.directory);
  const LocalStorage storage(directory);
  if (!storage.exists("")) {
    throw Error({.code = Code::not_found, .what = "no such directory", .file = directory, .hint = "give the directory that is saved to"});
  }
  if (command.explain) {
    const WriteChoice known = storage.write_choice("");
    if (command.json) return {nlohmann::json{{"choice", as_json(known)}, {"file", choices_file()}}.dump(1) + "\n"};
    return {as_text(known, directory) +
            (known.threads > 0 ? "  kept in " + printable(choices_file()) + "\n" : "  `tessera probe` measures it\n")};
  }
  const WriteProbe found = probe_writes(directory);
  keep_choice(directory, found.choice);
  if (command.json) {
    auto trials = nlohmann::json::array();
    for (const WriteTrial& trial : found.trials)
      trials.push_back({{"mode", name(trial.mode)}, {"threads", trial.threads}, {"bytes_per_second", trial.bytes_per_second}});
    return {nlohmann::json{{"choice", as_json(found.choice)}, {"trials", std::move(trials)}, {"file", choices_file()}}.dump(1) + "\n"};
  }
  Table table({{"way"}, {"threads", Align::right}, {"rate", Align::right}});
  for (const WriteTrial& trial : found.trials) table.add({name(trial.mode), std::to_string(trial.threads), rate(trial.bytes_per_second)});
  return {table.text() + as_text(found.choice, directory) + "  kept in " + printable(choices_file()) + "\n"};
}

}  // namespace tessera::cli
