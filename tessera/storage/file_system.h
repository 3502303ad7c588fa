// tessera/storage/file_system.h: the system calls that a local storage makes, so that a test can stand in for the system.
// Contract    Each does what the system call of its name does: same arguments, same results, -1 with errno where it fails.
//             `directory` is an open directory, or AT_FDCWD with an absolute `name`. No call throws but list(), for want of memory.
// Threads     Safe to use from many threads.
#pragma once

#include <fcntl.h>  // AT_FDCWD, O_…
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <span>
#include <string>
#include <vector>

#include "tessera/storage/storage.h"

namespace tessera {

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual int openat(int directory, const std::string& name, int flags, mode_t mode) = 0;
  virtual int close(int file) = 0;
  virtual ssize_t pread(int file, void* into, size_t count, off_t offset) = 0;
  // One pread a part where nobody knows better.
  virtual ssize_t preadv(int file, std::span<const iovec> parts, off_t offset);
  virtual ssize_t pwrite(int file, const void* from, size_t count, off_t offset) = 0;
  virtual int fsync(int file) = 0;
  // sync_file_range(SYNC_FILE_RANGE_WRITE): the disk begins with these bytes, to the file's end if `count` is 0; promises nothing.
  virtual int start_writeback(int file, off_t offset, off_t count) = 0;

  // Room for so many bytes, which become the file's length: fallocate(). ENOTSUP where nobody knows better.
  virtual int preallocate(int file, off_t bytes);
  // From now on past the page cache (O_DIRECT), or through it again. ENOTSUP where nobody knows better.
  virtual int set_direct(int file, bool direct);

  virtual int mkdirat(int directory, const std::string& name, mode_t mode) = 0;
  virtual int linkat(int from, const std::string& old_name, int to, const std::string& new_name, int flags) = 0;
  virtual int renameat2(int from, const std::string& old_name, int to, const std::string& new_name, unsigned flags) = 0;
  virtual int unlinkat(int directory, const std::string& name, int flags) = 0;

  virtual int fstat(int file, struct stat& status) = 0;
  virtual int fstatat(int directory, const std::string& name, struct stat& status, int flags) = 0;
  virtual int fchown(int file, uid_t owner, gid_t group) = 0;
  virtual int fchmod(int file, mode_t mode) = 0;

  // All names in an open directory but "." and "..", from the first on, however often it was listed before.
  virtual int list(int directory, std::vector<DirectoryEntry>& entries) = 0;
  // True if the open directory is where a file system is mounted; false if not or where the system does not say.
  virtual bool is_mount(int directory) = 0;
};

// The real one.
FileSystem& posix();

}  // namespace tessera
