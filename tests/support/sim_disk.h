// tests/support/sim_disk.h: a file system in memory that remembers every change in order, so that what a crash would have left can be
// worked out afterwards (persistence.h).
// Like       the calls of file_system.h on Linux, errno included, for regular files and directories. Not there: symbolic links, "..",
//             owners, modes that forbid anything.
// Threads     Safe to use from many threads; the order of changes is the order in which they took effect.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tessera/base/bytes.h"
#include "tessera/base/guarded.h"
#include "tessera/storage/file_system.h"

namespace tessera {

struct Inode {
  bool is_directory = false;
  bool is_mount = false;
  mode_t mode = 0;
  Bytes data;                        // of a file
  std::map<std::string, int> names;  // of a directory: name → inode
};
// What a disk holds: number → inode. The file system's root is `root_inode`.
using DiskImage = std::map<int, Inode>;
constexpr int root_inode = 1;
DiskImage empty_disk();
// "/runs/c/.metadata" → content; a directory ends in '/'.
std::map<std::string, std::string> tree_of(const DiskImage& image);

// One change to a disk, or the sync of one inode.
struct Change {
  enum class Kind : uint8_t { write, names, sync };
  // A name that leads to an inode from now on, or to none. Those of one change take effect together: a rename has two.
  struct Name {
    int directory = 0;
    std::string name;
    int inode = 0;  // 0: gone
    bool is_directory = false;
  };
  Kind kind = Kind::sync;
  int inode = 0;  // what is written or synced
  int64_t offset_bytes = 0;
  Bytes bytes;
  std::vector<Name> names;
};
std::string describe(const Change& change);
void redo(DiskImage& image, const Change& change);
// A write's bytes into a file's.
void put(Bytes& data, const Change& write);

// A disk as it was when recording began, all of it durable, and what was done to it since.
struct Recording {
  DiskImage base;
  std::vector<Change> changes;
};

struct SimDiskOptions {
  bool exchange = true;                 // renameat2 knows RENAME_EXCHANGE
  bool no_replace = true;               // … and RENAME_NOREPLACE
  int64_t most_bytes = INT64_MAX;       // one pread or pwrite moves no more
};

class SimDisk final : public FileSystem {
 public:
  explicit SimDisk(const SimDiskOptions& options = {}, DiskImage image = empty_disk());

  Recording recording() const;
  size_t changes() const;
  // Begins a new recording: all that is there is durable.
  void settle();
  DiskImage image() const;
  // The directory at `path` becomes a mount point: nothing can be renamed onto it.
  void mount(const std::string& path);
  int open_descriptors() const;

  int openat(int directory, const std::string& name, int flags, mode_t mode) override;
  int close(int file) override;
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
  struct Open {
    int inode = 0;
    int flags = 0;
  };
  struct State {
    DiskImage image;
    std::map<int, Open> open;
    Recording recording;
    int next_inode = 0;
    int next_descriptor = 0;
  };
  // Where a name leads: the directory that has it, the name's last part, and the inode there (0: none).
  struct Where {
    int directory = 0;
    std::string name;
    int inode = 0;
  };
  template <class Work>
  auto locked(Work work) const;
  static Where find(const State& state, int directory, const std::string& name);
  static Inode* inode_of(State& state, int file);
  static void change(State& state, Change change);
  static int check_rename(const State& state, const Where& from, const Where& to, unsigned flags);

  const SimDiskOptions options_;
  mutable Guarded<State> state_;
};

}  // namespace tessera
