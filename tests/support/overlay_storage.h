// tests/support/overlay_storage.h: files in memory for reading only, some of them changed: a checkpoint with damage, made in the time that
// it takes to copy one file, and without touching what lies below.
// Threads     Nothing changes after the constructor.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "tessera/storage/storage.h"

namespace tessera {

using Files = std::map<Path, std::shared_ptr<const Bytes>>;
// What became of files; nothing: the file is gone.
using Changes = std::map<Path, std::optional<Bytes>>;

// Every file of a directory of a storage, and of those below it, by its path from that directory on.
Files files_of(const Storage& storage, const Path& directory);

class OverlayStorage final : public Storage {
 public:
  explicit OverlayStorage(Files files, Changes changes = {});

  std::unique_ptr<ByteSource> open(const Path& file) const override;
  std::vector<DirectoryEntry> list(const Path& directory) const override;
  bool exists(const Path& path) const override;
  std::string root() const override { return "overlay"; }

  // Error(unsupported), all of them.
  std::unique_ptr<FileWriter> create(const Path& file) override;
  Path stage(const Path& target, const std::string& id) override;
  void sync(const Path& directory) override;
  void commit(const Path& staging, const Path& target, const std::string& last, Replace replace, const MayReplace& may_replace) override;
  void commit_file(const Path& staged, const Path& target, Replace replace) override;
  void remove(const Path& directory) override;

 private:
  Files files_;
};

}  // namespace tessera
