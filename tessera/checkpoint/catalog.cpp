#include "tessera/checkpoint/catalog.h"

#include <algorithm>
#include <charconv>

#include "tessera/base/digest.h"
#include "tessera/format/dcp.h"
#include "tessera/format/sidecar.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

constexpr std::string_view prefix = "step-";
constexpr std::string_view pin_suffix = ".pinned";
constexpr size_t least_digits = 8;

Path pin_name(Step step) { return step_name(step) + std::string(pin_suffix); }

// None where there is no root yet.
std::vector<DirectoryEntry> entries_of_root(const Storage& storage) {
  auto entries = capture([&] { return storage.list(""); });
  if (!entries && entries.fault.code == Code::not_found) return {};
  return std::move(entries).or_throw();
}

// A directory that hides what is in it may well be a step, and so may one that lost its `.metadata` and not its sidecar: whoever looks
// closer will say what is wrong with it. One that a save is still moving up into has a staging directory in it.
bool may_be_step(const Storage& storage, const Path& directory) {
  const auto is_one = capture([&] {
    if (storage.exists(directory + "/" + format::metadata_file)) return true;
    if (!storage.exists(directory + "/" + format::sidecar_file)) return false;
    return std::ranges::none_of(storage.list(directory), [](const DirectoryEntry& entry) { return is_staging_name(entry.name); });
  });
  return !is_one || *is_one.value;
}

}  // namespace

Path step_name(Step step) {
  if (step < 0) throw Error({.code = Code::invalid_argument, .what = "a step is 0 or more, not " + std::to_string(step)});
  const std::string digits = std::to_string(step);
  return std::string(prefix) + std::string(least_digits - std::min(least_digits, digits.size()), '0') + digits;
}

std::optional<Step> step_named(const std::string& name) {
  if (!name.starts_with(prefix)) return std::nullopt;
  Step step = 0;
  const char* const first = name.data() + prefix.size();
  const char* const last = name.data() + name.size();
  const auto [end, failure] = std::from_chars(first, last, step);
  if (failure != std::errc() || end != last || step < 0 || step_name(step) != name) return std::nullopt;
  return step;
}

std::vector<Step> steps_of(const Storage& storage) {
  std::vector<Step> steps;
  for (const DirectoryEntry& entry : entries_of_root(storage)) {
    const auto step = step_named(entry.name);
    if (step && entry.is_directory && may_be_step(storage, entry.name)) steps.push_back(*step);
  }
  std::ranges::sort(steps);
  return steps;
}

std::set<Step> pinned_steps(const Storage& storage) {
  std::set<Step> steps;
  for (const DirectoryEntry& entry : entries_of_root(storage)) {
    if (!entry.name.ends_with(pin_suffix)) continue;
    if (const auto step = step_named(entry.name.substr(0, entry.name.size() - pin_suffix.size()))) steps.insert(*step);
  }
  return steps;
}

void pin(Storage& storage, Step step) {
  if (!storage.exists(step_name(step) + "/" + format::metadata_file))
    throw Error({.code = Code::not_found, .what = "no such step to pin", .file = step_name(step)});
  if (!storage.exists(pin_name(step))) storage.create(pin_name(step))->close();
  storage.sync("");  // also where it was there: whoever made it may not have come to this line
}

void unpin(Storage& storage, Step step) {
  if (!storage.exists(pin_name(step))) return;
  // A storage removes directories: the file goes in one.
  const Path way_out = storage.stage(pin_name(step) + ".gone", random_id());
  storage.commit_file(pin_name(step), way_out + "/" + pin_name(step), Replace::never);
  storage.remove(way_out);
}

}  // namespace tessera
