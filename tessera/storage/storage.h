// tessera/storage/storage.h: write-once files below a root, and one atomic commit.
// Paths       Relative to the root, with '/' between names; never absolute, empty or with "..". Error(invalid_argument) else.
// Durability  A file is durable once its writer's close() returned and its directory was synced; a commit is
//             durable when commit() returns.
// Errors      Error with the path and errno. A failed sync is never tried again on the same file.
// Threads     Safe to use from many threads. A reader too; of a writer, write() for ranges that do not overlap, but not close().
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tessera/base/byte_source.h"
#include "tessera/base/io_options.h"

namespace tessera {

using Path = std::string;

class FileWriter {
 public:
  virtual ~FileWriter() = default;  // without close(): the file stays behind unfinished, for reclaim
  // Before the first write: how long the file will be, and how it is best written. Error(no_space) where that is known to be too much.
  // False where the storage cannot write in that way, and does it in its own.
  virtual bool prepare(int64_t /*total_bytes*/, WriteMode mode) { return mode != WriteMode::direct; }
  virtual void write(int64_t offset_bytes, std::span<const std::byte> bytes) = 0;
  // Makes the content durable and closes. Returns the file's length as the file system reports it.
  virtual int64_t close() = 0;
};

struct DirectoryEntry {
  std::string name;
  bool is_directory = false;
  std::chrono::system_clock::time_point modified = {};  // the epoch where the storage does not tell
};

enum class Replace {
  never,       // a full target is an error
  exchange,    // swap the two atomically; an error where the file system cannot
  with_gap,    // as exchange, else move the old one aside first: a crash between the two moves leaves no target, only
               // the old one under a name ".tessera-aside-…", which no rule removes
};

// Asked about what is to be replaced, at the path where it stands just then: throws where it must stay.
using MayReplace = std::function<void(const Path& old)>;

class Storage {
 public:
  virtual ~Storage() = default;
  // Creates a file that must not exist yet, in a directory that does.
  virtual std::unique_ptr<FileWriter> create(const Path& file) = 0;
  // Opens a regular file for reading; never follows a symbolic link, never leaves the root.
  virtual std::unique_ptr<ByteSource> open(const Path& file) const = 0;
  // In no order; Error(not_found) if there is no such directory. "" is the root.
  virtual std::vector<DirectoryEntry> list(const Path& directory) const = 0;
  virtual bool exists(const Path& path) const = 0;

  // Chooses and creates the directory where `target` is staged: ".tessera-<id>" beside it, or inside it where beside
  // is closed to us or on another file system. Error(invalid_argument) for a target with a name of ours in it.
  virtual Path stage(const Path& target, const std::string& id) = 0;
  // What is known of how `directory` is best written to.
  virtual WriteChoice write_choice(const Path& /*directory*/) const { return {}; }
  // Makes the names in a directory durable.
  virtual void sync(const Path& directory) = 0;
  // Makes the staged directory appear as `target`, durably and all at once, `last` being the file whose presence makes
  // a checkpoint. Error(exists) if `target` holds anything already, unless `replace` says otherwise. `may_replace` is asked
  // before, and again about what was in fact replaced: if it throws then, that is put back in its place.
  virtual void commit(const Path& staging, const Path& target, const std::string& last, Replace replace,
                      const MayReplace& may_replace = {}) = 0;
  // The same for a target that is one file, staged below a directory that `stage` made for a name beside it. The staging directory
  // is left for the caller to remove. Error(exists) if the target exists, unless `replace` says otherwise: then the file changes at once.
  virtual void commit_file(const Path& staged, const Path& target, Replace replace) = 0;
  // First out of sight (renamed to ".tessera-trash-…"), then gone: whoever still fills it or is about to commit it finds
  // nothing, and never a part. Nothing happens if it is not there.
  virtual void remove(const Path& directory) = 0;
  // The root as a person knows it, for messages.
  virtual std::string root() const = 0;
};

}  // namespace tessera
