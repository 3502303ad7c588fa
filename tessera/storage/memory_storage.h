// tessera/storage/memory_storage.h: a storage that lives in memory: for tests, and for whoever saves to hand over.
// It keeps the rules of storage.h but for durability. Two views of one tree (two ranks) share it through a shared_ptr.
#pragma once

#include <map>

#include "tessera/base/guarded.h"
#include "tessera/storage/storage.h"

namespace tessera {

class MemoryStorage final : public Storage {
 public:
  std::unique_ptr<FileWriter> create(const Path& file) override;
  std::unique_ptr<ByteSource> open(const Path& file) const override;
  std::vector<DirectoryEntry> list(const Path& directory) const override;
  bool exists(const Path& path) const override;
  Path stage(const Path& target, const std::string& id) override;
  void sync(const Path& directory) override;
  void commit(const Path& staging, const Path& target, const std::string& last, Replace replace,
              const MayReplace& may_replace = {}) override;
  void commit_file(const Path& staged, const Path& target, Replace replace) override;
  void remove(const Path& directory) override;
  std::string root() const override { return "memory"; }

 private:
  using Content = std::shared_ptr<std::vector<std::byte>>;
  // Path → a file's bytes, or null for a directory. The root is always there.
  struct Tree {
    std::map<Path, Content> nodes;
  };
  class Writer;
  class Source;
  mutable Guarded<Tree> tree_;
};

}  // namespace tessera
