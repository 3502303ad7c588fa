#include <algorithm>

#include "tessera/base/digest.h"
#include "tessera/exchange/target.h"
#include "tessera/format/dcp.h"

namespace tessera {
namespace {

// Removes the staging directory whether or not `work` throws; its own failure never hides another.
void staged(Storage& storage, const Path& staging, const std::function<void()>& work) {
  const auto done = capture(work);
  capture([&] {
    if (storage.exists(staging)) storage.remove(staging);
  });
  if (!done) throw Error(done.fault);
}

}  // namespace

void refuse_taken(const Storage& storage, const Path& target, Replace replace) {
  if (!storage.exists(target)) return;
  const auto entries = capture([&] { return storage.list(target); });
  if (entries && entries.value->empty()) return;
  if (replace != Replace::never) {
    // A file, or a checkpoint of either kind, may go. A root of steps, or somebody's other files, may not.
    const auto marks_a_checkpoint = [](const DirectoryEntry& entry) {
      return entry.name == format::metadata_file || entry.name == "__0.metadata" || entry.name.ends_with(".safetensors");
    };
    if (!entries || std::ranges::any_of(*entries.value, marks_a_checkpoint)) return;
    throw Error({.code = Code::exists,
                 .what = "a directory that is no checkpoint is there, and is not replaced",
                 .file = target,
                 .hint = "choose another place, or remove it yourself"});
  }
  throw Error(
      {.code = Code::exists, .what = "something is there already", .file = target, .hint = "choose another place, or --replace it"});
}

void write_file(Storage& storage, const Path& file, const std::function<void(FileWriter&)>& fill) {
  const auto writer = storage.create(file);
  fill(*writer);
  writer->close();
}

void publish_file(Storage& storage, const Path& target, Replace replace, const std::function<void(FileWriter&)>& fill) {
  refuse_taken(storage, target, replace);
  const std::string id = random_id();
  // Staged for a name that is free: beside the target, whatever that is.
  const Path staging = storage.stage(target + "." + id, id);
  staged(storage, staging, [&] {
    write_file(storage, staging + "/file", fill);
    storage.sync(staging);
    storage.commit_file(staging + "/file", target, replace);
  });
}

void publish_directory(Storage& storage, const Path& target, Replace replace, const std::string& last,
                       const std::function<void(const Path& staging)>& fill) {
  refuse_taken(storage, target, replace);
  const Path staging = storage.stage(target, random_id());
  staged(storage, staging, [&] {
    fill(staging);
    storage.sync(staging);
    storage.commit(staging, target, last, replace);
  });
}

}  // namespace tessera
