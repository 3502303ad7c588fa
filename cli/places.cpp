#include "cli/places.h"

#include "tessera/checkpoint/catalog.h"
#include "tessera/checkpoint/place.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/local_storage.h"

namespace tessera::cli {
namespace {

// The file of an error about the checkpoint at `path`, as seen from where the person stands. Errors name files from the
// checkpoint's parent on, "<directory>/<file>", or from the checkpoint on.
std::string seen_from_outside(const std::string& path, const std::string& file) {
  const auto place = capture([&] { return place_of(path); });
  const std::string directory = place ? place.value->name : "";
  if (file.empty() || file == directory || file.starts_with('/')) return path;
  return path + "/" + (file.starts_with(directory + "/") ? file.substr(directory.size() + 1) : file);
}

// Runs `work` on the checkpoint at `path`; an Error leaves with the path before its file.
template <class Work>
auto naming(const std::string& path, Work work) {
  auto outcome = capture(work);
  if (!outcome) outcome.fault.file = seen_from_outside(path, outcome.fault.file);
  return std::move(outcome).or_throw();
}

}  // namespace

std::string plain_path(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

void NamedCheckpoint::read(const std::string& key, const Box& box, const View& into) const {
  naming(path_, [&] { checkpoint_.read(key, box, into); });
}

Value NamedCheckpoint::object(const std::string& key) const {
  return naming(path_, [&] { return checkpoint_.object(key); });
}

NamedCheckpoint open_checkpoint(const std::string& path) {
  if (const auto steps = steps_at(path)) {
    throw Error({.code = Code::invalid_argument,
                 .what = path + " is a root of steps, not one checkpoint",
                 .hint = "name a step, as in " + path + "/" + steps->names.back()});
  }
  return {path, naming(path, [&] { return Checkpoint::open(path); })};
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
