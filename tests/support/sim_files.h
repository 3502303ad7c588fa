// tests/support/sim_files.h: one process's way to a file system that many share, system call by system call (sim_trouble.h).
// Only close() takes no time: a descriptor is closed by whoever unwinds.
#pragma once

#include "tessera/storage/file_system.h"
#include "tests/support/sim_trouble.h"

namespace tessera {

class SimFiles final : public FileSystem {
 public:
  SimFiles(SimProcess& process, FileSystem& below, std::vector<StorageTrouble> troubles, StorageWitness witness)
      : below_(below), troubled_(process, std::move(troubles), std::move(witness)) {}
  int64_t failures() const { return troubled_.failures(); }

  int openat(int directory, const std::string& name, int flags, mode_t mode) override;
  int close(int file) override { return below_.close(file); }
  ssize_t pread(int file, void* into, size_t count, off_t offset) override;
  ssize_t pwrite(int file, const void* from, size_t count, off_t offset) override;
  int fsync(int file) override;
  int start_writeback(int file, off_t offset, off_t count) override;
  int mkdirat(int directory, const std::string& name, mode_t mode) override;
  int linkat(int from, const std::string& old_name, int to, const std::string& new_name, int flags) override;
  int renameat2(int from, const std::string& old_name, int to, const std::string& new_name, unsigned flags) override;
  int unlinkat(int directory, const std::string& name, int flags) override;
  int fstat(int file, struct stat& status) override;
  int fstatat(int directory, const std::string& name, struct stat& status, int flags) override;
  int fchown(int file, uid_t owner, gid_t group) override;
  int fchmod(int file, mode_t mode) override;
  int list(int directory, std::vector<DirectoryEntry>& entries) override;
  bool is_mount(int directory) override;

 private:
  template <class Work>
  auto call(const char* name, const std::string& what, Work work);

  FileSystem& below_;
  Troubled troubled_;
};

}  // namespace tessera
