#include "cli/places.h"

#include "tessera/checkpoint/catalog.h"
#include "tessera/checkpoint/place.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/local_storage.h"

namespace tessera::cli {
std::string seen_from_outside(const std::string& path, const std::string& file) {
  const auto place = capture([&] { return place_of(path); });
  const std::string directory = place ? place.value->name : "";
  if (file.empty() || file == directory || file.starts_with('/')) return path;
  return path + "/" + (file.starts_with(directory + "/") ? file.substr(directory.size() + 1) : file);
}

std::string plain_path(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

Value NamedCheckpoint::object(const std::string& key) const {
  return naming([&] { return checkpoint_.object(key); });
}

NamedCheckpoint open_checkpoint(const std::string& path, const OpenOptions& options) {
  if (const auto steps = steps_at(path)) {
    throw Error({.code = Code::invalid_argument,
                 .what = path + " is a root of steps, not one checkpoint",
                 .hint = "name a step, as in " + path + "/" + steps->names.back()});
  }
  auto opened = capture([&] { return Checkpoint::open(path, options); });
  if (!opened) opened.fault.file = seen_from_outside(path, opened.fault.file);
  return {path, std::move(opened).or_throw()};
}

std::optional<Steps> steps_at(const std::string& path) {
  auto root = std::make_shared<const LocalStorage>(path);
  if (root->exists(format::metadata_file)) return std::nullopt;
  Steps steps;
  for (const Step step : steps_of(*root)) steps.names.push_back(step_name(step));
  steps.root = std::move(root);
  if (steps.names.empty()) return std::nullopt;
  return steps;
}

}  // namespace tessera::cli
