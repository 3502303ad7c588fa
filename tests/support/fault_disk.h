// tests/support/fault_disk.h: a file system between a storage and another file system, which fails as it is told to.
// Counting    Operations are counted from 1, in the order in which they begin; a rule counts those that it is about.
// Threads     Safe to use from many threads. Rules are added before the work that they are for begins.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tessera/base/guarded.h"
#include "tessera/storage/file_system.h"

namespace tessera {

enum class Call : uint8_t {
  openat,
  create,  // openat with O_CREAT
  close,
  pread,
  pwrite,
  fsync,
  mkdirat,
  linkat,
  renameat2,
  unlinkat,
  fstat,
  fstatat,
  fchown,
  fchmod,
  list,
};
const char* name(Call call);
// True for those after which a disk may hold something else than before, fsync included.
bool changes_disk(Call call);

struct Operation {
  Call call = Call::openat;
  std::string path;  // as it was when the file was opened
  bool hit = false;  // by a rule
};
std::string describe(const Operation& operation);

struct Trouble {
  enum class Kind : uint8_t {
    fail,          // -1 and `os_errno`; nothing is done
    shorten,       // a pread or pwrite moves one byte only
    lose,          // a pwrite or fsync does nothing and says that all went well
    garble,        // a pwrite stores one changed bit, or a pread returns one, and says that all went well
    wait,          // another thread may run first
    crash_before,  // nothing is done, now or ever after: the process is gone as far as the disk can tell
    crash_after,   // done, and nothing ever after
    crash_torn,    // a pwrite stores its first half, other calls are done; and nothing ever after
  };
  Kind kind = Kind::fail;
  int os_errno = 5;  // EIO
};

struct Rule {
  Trouble trouble;
  int64_t at = 1;        // the first operation that is hit, among those that `about` takes
  bool for_ever = false;  // that one alone, or all from there on
  std::function<bool(const Operation&)> about = {};  // empty: every operation
};

class FaultDisk final : public FileSystem {
 public:
  explicit FaultDisk(FileSystem& inner) : inner_(inner) {}
  void add(Rule rule);
  // All operations so far, or since forget(), in order.
  std::vector<Operation> operations() const;
  // Lets go of the record, which grows with every operation.
  void forget();
  // The first operation that a rule hit; "" while none was.
  std::string hit() const;

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
  struct Counted {
    Rule rule;
    int64_t seen = 0;
  };
  struct State {
    std::vector<Counted> rules;
    std::vector<Operation> operations;
    std::map<int, std::string> paths;  // of open descriptors
    std::string hit;
    bool crashed = false;
  };
  // What is to happen to this operation.
  struct Fate {
    bool hit = false;
    Trouble trouble;
  };
  Fate begin(Call call, int file, const std::string& name = {});
  // Runs `work`, or what befalls it.
  template <class Work>
  auto call(Call which, int file, const std::string& name, Work work);
  std::string path_of(int file, const std::string& name);

  FileSystem& inner_;
  mutable Guarded<State> state_;
};

}  // namespace tessera
