#include "tessera/checkpoint/reclaim.h"

#include <algorithm>
#include <optional>

#include "tessera/checkpoint/catalog.h"
#include "tessera/checkpoint/head.h"
#include "tessera/format/dcp.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

using Time = std::chrono::system_clock::time_point;

// What `.metadata` of a staging directory is called once its moves are taken back: a save that is at work after all cannot put it in its
// place any more, and whoever takes the moves back after a crash still finds it.
constexpr const char* withdrawn_metadata = "withdrawn.metadata";

bool is_leftover(const DirectoryEntry& entry) { return entry.is_directory && is_leftover_name(entry.name); }

struct Content {
  int64_t bytes = 0;
  Time modified = {};
};
// No further down than anything of ours reaches: what others planted there is not to be walked for ever.
Content content_of(const Storage& storage, const Path& path, const DirectoryEntry& entry, int depth = 3) {
  Content content{.modified = entry.modified};
  if (!entry.is_directory) {
    content.bytes = capture([&] { return storage.open(path)->size_bytes(); }).value.value_or(0);
    return content;
  }
  if (depth == 0) return content;
  const auto entries = capture([&] { return storage.list(path); });
  if (!entries) return content;
  for (const DirectoryEntry& inner : *entries.value) {
    const Content more = content_of(storage, below(path, inner.name), inner, depth - 1);
    content.bytes += more.bytes;
    content.modified = std::max(content.modified, more.modified);
  }
  return content;
}

std::optional<Bytes> bytes_of(const Storage& storage, const Path& file) {
  return capture([&] { return read_file(storage, file, format::Limits{}.metadata_bytes); }).value;
}

// What a save was about to publish, its head being in the staging directory, the sidecar perhaps in the target already. Nothing unless
// all of it is sound and of the save that the directory is named after.
std::optional<format::Sidecar> sidecar_of_unfinished(const Storage& storage, const Path& target, const Path& staging) {
  auto metadata = bytes_of(storage, below(staging, format::metadata_file));
  if (!metadata) metadata = bytes_of(storage, below(staging, withdrawn_metadata));
  auto sidecar = bytes_of(storage, below(staging, format::sidecar_file));
  if (!sidecar) sidecar = bytes_of(storage, below(target, format::sidecar_file));
  if (!metadata || !sidecar || sidecar->empty()) return std::nullopt;
  const auto head = capture([&] {
    Head decoded = decode_head({*metadata, *sidecar});
    if (staging_name(decoded.manifest.save_id) != split(staging).name)
      throw Error({.code = Code::mismatch, .what = "the head is of another save", .file = staging});
    return decoded;
  });
  if (!head || !head.value->sidecar) return std::nullopt;
  return *head.value->sidecar;
}

bool has_length(const Storage& storage, const Path& file, int64_t length_bytes) {
  const auto found = capture([&] { return storage.open(file)->size_bytes(); });
  return found && *found.value == length_bytes;
}

// Files of the sidecar that have left the staging directory and are in the target instead.
std::vector<Path> files_moved(const Storage& storage, const Path& target, const Path& staging, const format::Sidecar& sidecar) {
  std::vector<Path> moved;
  for (const auto& [name, file] : sidecar.files) {
    const auto is_moved = capture([&] { return names_of(name).size() == 1 && !storage.exists(below(staging, name)); });
    if (is_moved && *is_moved.value && has_length(storage, below(target, name), file.length_bytes)) moved.push_back(below(target, name));
  }
  return moved;
}

std::vector<Path> moved_up(const Storage& storage, const Path& target, const Path& staging) {
  if (storage.exists(below(target, format::metadata_file))) return {};  // it is published: these files are its own
  const auto sidecar = sidecar_of_unfinished(storage, target, staging);
  if (!sidecar) return {};
  std::vector<Path> moved = files_moved(storage, target, staging, *sidecar);
  // The sidecar last: it is what knows the others.
  if (!storage.exists(below(staging, format::sidecar_file))) moved.push_back(below(target, format::sidecar_file));
  return moved;
}

void add_leftovers(const Storage& storage, const Path& directory, std::vector<Leftover>& all) {
  for (const DirectoryEntry& entry : storage.list(directory)) {
    const Path path = below(directory, entry.name);
    if (!is_leftover(entry)) continue;
    const Content content = content_of(storage, path, entry);
    Leftover leftover{.directory = path, .bytes = content.bytes, .modified = content.modified};
    if (!is_trash_name(entry.name)) leftover.moved_up = moved_up(storage, directory, path);
    for (const Path& file : leftover.moved_up)
      leftover.bytes += capture([&] { return storage.open(file)->size_bytes(); }).value.value_or(0);
    all.push_back(std::move(leftover));
  }
}

bool may_be_alive(const Leftover& leftover, const ReclaimOptions& options, Time now) {
  const std::string name = split(leftover.directory).name;
  if (std::ranges::any_of(options.alive, [&](const std::string& id) { return staging_name(id) == name; })) return true;
  if (options.older_than.count() <= 0) return false;
  return leftover.modified == Time{} || now - leftover.modified < options.older_than;
}

// The moves are taken back, and what is then whole below its own name goes as any other.
void remove(Storage& storage, const Leftover& leftover) {
  const Path& staging = leftover.directory;
  if (!leftover.moved_up.empty() && storage.exists(below(staging, format::metadata_file)))
    storage.commit_file(below(staging, format::metadata_file), below(staging, withdrawn_metadata), Replace::never);
  for (const Path& file : leftover.moved_up) storage.commit_file(file, below(staging, split(file).name), Replace::never);
  if (!leftover.moved_up.empty()) storage.sync(split(staging).parent);
  storage.remove(staging);
}

}  // namespace

std::vector<Leftover> leftovers_of(const Storage& storage, const Path& directory) {
  std::vector<Leftover> all;
  add_leftovers(storage, directory, all);
  for (const DirectoryEntry& entry : storage.list(directory)) {
    // A step may be its own file system, and be staged inside itself. One that cannot be looked into has nothing to give.
    if (entry.is_directory && step_named(entry.name)) capture([&] { add_leftovers(storage, below(directory, entry.name), all); });
  }
  std::ranges::sort(all, {}, &Leftover::directory);
  return all;
}

ReclaimReport reclaim(Storage& storage, const Path& directory, const ReclaimOptions& options) {
  ReclaimReport report;
  const Time now = std::chrono::system_clock::now();
  for (Leftover& leftover : leftovers_of(storage, directory)) {
    if (may_be_alive(leftover, options, now)) {
      report.spared.push_back(std::move(leftover));
      continue;
    }
    const auto removed = capture([&] {
      if (options.looks_at) options.looks_at(leftover.directory);
      if (!options.dry_run) remove(storage, leftover);
    });
    if (removed) report.removed.push_back(std::move(leftover));
    else report.warnings.push_back(leftover.directory + " could not be removed: " + describe(removed.fault));
  }
  return report;
}

void reclaim_inside(Storage& storage, const Path& target) {
  capture([&] {
    if (!storage.exists(target) || storage.exists(below(target, format::metadata_file))) return;
    if (std::ranges::any_of(storage.list(target), is_leftover)) reclaim(storage, target);
  });
}

}  // namespace tessera
