#include "cli/gc.h"

#include <fmt/format.h>

#include <charconv>

#include "cli/leftovers.h"
#include "cli/places.h"
#include "cli/text.h"
#include "tessera/base/human_bytes.h"
#include "tessera/checkpoint/reclaim.h"
#include "tessera/storage/local_storage.h"

namespace tessera::cli {
namespace {

Error usage(std::string what, std::string hint) {
  return Error({.code = Code::invalid_argument, .what = std::move(what), .hint = std::move(hint)});
}

std::optional<int64_t> number_in(std::string_view text) {
  int64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc() || end != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

std::string removed_text(const std::string& root, const ReclaimReport& reclaimed, const RetentionReport& retained, bool dry_run) {
  const std::string verb = dry_run ? "would remove" : "removed";
  std::string text;
  for (const Leftover& one : reclaimed.removed) {
    text += fmt::format("{} {}: {}", verb, printable(root + "/" + one.directory), human_bytes(one.bytes));
    text += one.moved_up.empty() ? "\n" : fmt::format(", with {} files beside it\n", one.moved_up.size());
  }
  for (const Step step : retained.removed) text += fmt::format("{} {}/{}\n", verb, printable(root), step_name(step));
  for (const Leftover& one : reclaimed.spared)
    text += fmt::format("left {}: a save may be at work there{}\n", printable(root + "/" + one.directory),
                        age_of(one).empty() ? "" : "; it changed " + age_of(one) + " ago");
  for (const auto* warnings : {&reclaimed.warnings, &retained.warnings}) {
    for (const std::string& one : *warnings) text += "warning: " + printable(one) + "\n";
  }
  return text;
}

}  // namespace

std::chrono::seconds age_named(std::string_view text) {
  constexpr std::string_view units = "smhd";
  constexpr int64_t seconds[] = {1, 60, 3600, 86400};
  const size_t unit = text.empty() ? std::string_view::npos : units.find(text.back());
  const auto number = number_in(unit == std::string_view::npos ? text : text.substr(0, text.size() - 1));
  const bool has_unit = unit != std::string_view::npos;
  constexpr int64_t most = 100 * 365;  // of any unit but seconds this is long enough, and far from an overflow
  if (!number || (!has_unit && *number != 0) || (has_unit && *number > most * 86400 / seconds[unit]))
    throw usage("'" + std::string(text) + "' is no age", "as in 90s, 30m, 2h or 7d; 0 for any age");
  return std::chrono::seconds(has_unit ? *number * seconds[unit] : 0);
}

KeepBest best_named(std::string_view text) {
  const std::string_view all = text;
  KeepBest best;
  for (const std::string_view way : {"higher", "lower"}) {
    if (!text.ends_with(way) || text.size() <= way.size() || text[text.size() - way.size() - 1] != ':') continue;
    best.higher_is_better = way == "higher";
    text.remove_suffix(way.size() + 1);
    break;
  }
  const size_t colon = text.rfind(':');
  if (colon != std::string_view::npos) {
    const auto count = number_in(text.substr(colon + 1));
    if (!count || *count < 1 || *count > 1'000'000)
      throw usage("'" + std::string(all) + "' names no best steps", "as in loss, loss:3 or accuracy:3:higher");
    best.count = static_cast<int>(*count);
    text = text.substr(0, colon);
  }
  best.metric = text;
  if (best.metric.empty()) throw usage("'" + std::string(all) + "' names no metric", "as in loss, loss:3 or accuracy:3:higher");
  return best;
}

Output gc(const GcCommand& command) {
  const std::string path = plain_path(command.root);
  Retention rules = command.rules;
  if (!command.keep_best.empty()) rules.keep_best = best_named(command.keep_best);
  check(rules);
  const auto storage = std::make_shared<LocalStorage>(path);
  const ReclaimOptions options{.older_than = age_named(command.older_than), .dry_run = command.dry_run};
  if (!storage->exists("")) refuse_no_root(*storage, path);
  const ReclaimReport reclaimed = reclaim(*storage, "", options);
  const RetentionReport retained = retain(storage, rules, {}, {.dry_run = command.dry_run, .depth = Depth::every_byte});
  Output output{removed_text(path, reclaimed, retained, command.dry_run)};
  if (output.text.empty()) output.text = "nothing to remove in " + printable(path) + "\n";
  if (!reclaimed.warnings.empty() || !retained.warnings.empty()) output.exit_code = exit_differs;
  return output;
}

}  // namespace tessera::cli
