#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "tessera/storage/file_system.h"

namespace tessera {
namespace {

struct CloseStream {
  void operator()(DIR* stream) const { ::closedir(stream); }
};

bool is_directory(DIR* stream, const dirent& entry) {
  if (entry.d_type != DT_UNKNOWN) return entry.d_type == DT_DIR;
  struct stat status{};
  return ::fstatat(::dirfd(stream), entry.d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

class Posix final : public FileSystem {
 public:
  int openat(int directory, const std::string& name, int flags, mode_t mode) override {
    return ::openat(directory, name.c_str(), flags, mode);
  }
  int close(int file) override { return ::close(file); }
  ssize_t pread(int file, void* into, size_t count, off_t offset) override { return ::pread(file, into, count, offset); }
  ssize_t preadv(int file, std::span<const iovec> parts, off_t offset) override {
    return ::preadv(file, parts.data(), static_cast<int>(parts.size()), offset);
  }
  ssize_t pwrite(int file, const void* from, size_t count, off_t offset) override { return ::pwrite(file, from, count, offset); }
  int start_writeback(int file, off_t offset, off_t count) override {
    return ::sync_file_range(file, offset, count, SYNC_FILE_RANGE_WRITE);
  }
  int preallocate(int file, off_t bytes) override { return ::fallocate(file, 0, 0, bytes); }
  int set_direct(int file, bool direct) override {
    const int flags = ::fcntl(file, F_GETFL);
    return flags < 0 ? -1 : ::fcntl(file, F_SETFL, direct ? flags | O_DIRECT : flags & ~O_DIRECT);
  }
  int fsync(int file) override { return ::fsync(file); }

  int mkdirat(int directory, const std::string& name, mode_t mode) override { return ::mkdirat(directory, name.c_str(), mode); }
  int linkat(int from, const std::string& old_name, int to, const std::string& new_name, int flags) override {
    return ::linkat(from, old_name.c_str(), to, new_name.c_str(), flags);
  }
  int renameat2(int from, const std::string& old_name, int to, const std::string& new_name, unsigned flags) override {
    return ::renameat2(from, old_name.c_str(), to, new_name.c_str(), flags);
  }
  int unlinkat(int directory, const std::string& name, int flags) override { return ::unlinkat(directory, name.c_str(), flags); }

  int fstat(int file, struct stat& status) override { return ::fstat(file, &status); }
  int fstatat(int directory, const std::string& name, struct stat& status, int flags) override {
    return ::fstatat(directory, name.c_str(), &status, flags);
  }
  int fchown(int file, uid_t owner, gid_t group) override { return ::fchown(file, owner, group); }
  int fchmod(int file, mode_t mode) override { return ::fchmod(file, mode); }

  int list(int directory, std::vector<DirectoryEntry>& entries) override {
    // Opened anew: a dup() would share the place that an earlier listing came to.
    const int again = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (again < 0) return -1;
    std::unique_ptr<DIR, CloseStream> stream(::fdopendir(again));
    if (!stream) {
      const int why = errno;
      ::close(again);
      errno = why;
      return -1;
    }
    for (;;) {
      errno = 0;
      const dirent* entry = ::readdir(stream.get());
      if (!entry) {
        const int why = errno;
        stream.reset();
        errno = why;
        return why ? -1 : 0;
      }
      const std::string name = entry->d_name;
      if (name != "." && name != "..") entries.push_back({name, is_directory(stream.get(), *entry)});
    }
  }

  bool is_mount(int directory) override {
    struct statx status{};
    if (::statx(directory, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status) != 0) return false;
    return (status.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
  }
};

}  // namespace

int FileSystem::preallocate(int, off_t) {
  errno = ENOTSUP;
  return -1;
}
int FileSystem::set_direct(int, bool) {
  errno = ENOTSUP;
  return -1;
}

ssize_t FileSystem::preadv(int file, std::span<const iovec> parts, off_t offset) {
  ssize_t done = 0;
  for (const iovec& part : parts) {
    const ssize_t count = pread(file, part.iov_base, part.iov_len, offset + done);
    if (count < 0) return done > 0 ? done : count;
    done += count;
    if (static_cast<size_t>(count) < part.iov_len) break;
  }
  return done;
}

FileSystem& posix() {
  static Posix the_one;
  return the_one;
}

}  // namespace tessera
