// tests/support/sim_storage.h: one process's way to a storage that many share: each operation takes virtual time, may fail or take long,
// and is a point where the process may be killed or paused. What it does, it does all at once; a large write in two pieces. Death       A
// dead process does nothing to the storage, whatever its code still tries.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tessera/storage/storage.h"
#include "tests/support/sim_world.h"

namespace tessera {

// What goes wrong with a process's storage, by the number of the operation (0 is its first).
struct StorageTrouble {
  int64_t operation = 0;
  bool for_ever = false;      // with all later ones too
  int os_errno = 0;           // 0: it only takes long
  SimSpan takes = {};         // before it is done or fails
  bool after_effect = false;  // it is done, and told as failed
};

// Sees each operation just before it is done: the world's witness, who is told no lies.
using StorageWitness = std::function<void(std::string_view operation, const Path& path)>;

class SimStorage final : public Storage {
 public:
  SimStorage(SimProcess& process, std::shared_ptr<Storage> below, std::vector<StorageTrouble> troubles = {}, StorageWitness witness = {});

  std::unique_ptr<FileWriter> create(const Path& file) override;
  std::unique_ptr<ByteSource> open(const Path& file) const override;
  std::vector<DirectoryEntry> list(const Path& directory) const override;
  bool exists(const Path& path) const override;
  Path stage(const Path& target, const std::string& id) override;
  void sync(const Path& directory) override;
  void commit(const Path& staging, const Path& target, const std::string& last, Replace replace) override;
  void commit_file(const Path& staged, const Path& target, Replace replace) override;
  void remove(const Path& directory) override;
  std::string root() const override { return below_->root(); }

  // Operations so far, and how many of them failed by a trouble.
  int64_t operations() const;
  int64_t failures() const;

  class Troubled;  // what its files share with it

 private:
  const std::shared_ptr<Storage> below_;
  const std::shared_ptr<Troubled> troubled_;
};

}  // namespace tessera
