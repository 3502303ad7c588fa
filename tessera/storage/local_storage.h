// tessera/storage/local_storage.h: a directory of a POSIX file system.
// Containment  Every file is opened name by name below the root with O_NOFOLLOW, so neither a link nor ".." leads out of it.
// Commit       rename() of the staging directory onto a target that is absent or empty: a full one cannot be lost to it. Where
//              beside the target is closed (EACCES, EPERM, EROFS), or the target is a mount point or another file system, files
//              are staged inside the target and moved up, the last one's appearance being the commit. A directory that is
//              replaced hands its mode down. That an old checkpoint could not be deleted is no error: its trash name tells.
// Durability   Files are fsynced by close(), directories by sync() and commit(), and the root's own name when it is made.
//              A failed fsync is told and never tried again on the same file.
#pragma once

#include <atomic>

#include "tessera/storage/descriptor.h"
#include "tessera/storage/storage.h"

namespace tessera {

class LocalStorage final : public Storage {
 public:
  // The root need not exist until something is staged below it. `files` outlives this and what it opens.
  explicit LocalStorage(std::string root, FileSystem& files = posix());

  std::unique_ptr<FileWriter> create(const Path& file) override;
  std::unique_ptr<ByteSource> open(const Path& file) const override;
  std::vector<DirectoryEntry> list(const Path& directory) const override;
  bool exists(const Path& path) const override;
  Path stage(const Path& target, const std::string& id) override;
  // What write_probe.h has found, for the real file system.
  WriteChoice write_choice(const Path& directory) const override;
  void sync(const Path& directory) override;
  void commit(const Path& staging, const Path& target, const std::string& last, Replace replace,
              const MayReplace& may_replace = {}) override;
  void commit_file(const Path& staged, const Path& target, Replace replace) override;
  void remove(const Path& directory) override;
  std::string root() const override { return root_; }

 private:
  const std::string root_;  // as a person named it
  const LocalRoot place_;   // the same, absolute
  std::atomic<bool> root_was_synced_ = false;
};

}  // namespace tessera
