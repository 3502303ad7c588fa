// tests/support/sim_storage.h: one process's way to a storage that many share, operation by operation of the interface (sim_trouble.h).
// What an operation does, it does all at once; a write in two pieces.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tessera/storage/storage.h"
#include "tests/support/sim_trouble.h"

namespace tessera {

class SimStorage final : public Storage {
 public:
  SimStorage(SimProcess& process, std::shared_ptr<Storage> below, std::vector<StorageTrouble> troubles = {}, StorageWitness witness = {});

  std::unique_ptr<FileWriter> create(const Path& file) override;
  std::unique_ptr<ByteSource> open(const Path& file) const override;
  std::vector<DirectoryEntry> list(const Path& directory) const override;
  bool exists(const Path& path) const override;
  Path stage(const Path& target, const std::string& id) override;
  void sync(const Path& directory) override;
  void commit(const Path& staging, const Path& target, const std::string& last, Replace replace, const MayReplace& may_replace) override;
  void commit_file(const Path& staged, const Path& target, Replace replace) override;
  void remove(const Path& directory) override;
  std::string root() const override { return below_->root(); }

  // Operations so far, and how many of them failed by a trouble.
  int64_t operations() const { return troubled_->operations(); }
  int64_t failures() const { return troubled_->failures(); }

 private:
  const std::shared_ptr<Storage> below_;
  const std::shared_ptr<Troubled> troubled_;  // its files have it too
};

}  // namespace tessera
