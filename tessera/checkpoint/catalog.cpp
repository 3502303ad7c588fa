#include "tessera/checkpoint/catalog.h"

#include <algorithm>
#include <charconv>

#include "tessera/format/dcp.h"

namespace tessera {
namespace {

constexpr std::string_view prefix = "step-";
constexpr size_t least_digits = 8;

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
  std::vector<DirectoryEntry> entries;
  try {
    entries = storage.list("");
  } catch (const Error& error) {
    if (error.code() == Code::not_found) return {};
    throw;
  }
  std::vector<Step> steps;
  for (const DirectoryEntry& entry : entries) {
    const auto step = step_named(entry.name);
    if (step && entry.is_directory && storage.exists(entry.name + "/" + format::metadata_file)) steps.push_back(*step);
  }
  std::ranges::sort(steps);
  return steps;
}

}  // namespace tessera
