#include "tests/support/sim_files.h"

#include <cerrno>

namespace tessera {

template <class Work>
auto SimFiles::call(const char* name, const std::string& what, Work work) {
  return troubled_.operation(name, what, work, [](int os_errno) -> decltype(work()) {
    errno = os_errno;
    return -1;
  });
}

int SimFiles::openat(int directory, const std::string& name, int flags, mode_t mode) {
  return call(flags & O_CREAT ? "create" : "openat", name, [&] { return below_.openat(directory, name, flags, mode); });
}
ssize_t SimFiles::pread(int file, void* into, size_t count, off_t offset) {
  return call("pread", {}, [&] { return below_.pread(file, into, count, offset); });
}
// Half of it: whoever writes goes on.
ssize_t SimFiles::pwrite(int file, const void* from, size_t count, off_t offset) {
  return call("pwrite", {}, [&] { return below_.pwrite(file, from, count > 1 ? count / 2 : count, offset); });
}
int SimFiles::start_writeback(int file, off_t offset, off_t count) { return below_.start_writeback(file, offset, count); }
int SimFiles::fsync(int file) {
  return call("fsync", {}, [&] { return below_.fsync(file); });
}
int SimFiles::mkdirat(int directory, const std::string& name, mode_t mode) {
  return call("mkdirat", name, [&] { return below_.mkdirat(directory, name, mode); });
}
int SimFiles::linkat(int from, const std::string& old_name, int to, const std::string& new_name, int flags) {
  return call("linkat", new_name, [&] { return below_.linkat(from, old_name, to, new_name, flags); });
}
int SimFiles::renameat2(int from, const std::string& old_name, int to, const std::string& new_name, unsigned flags) {
  return call("renameat2", old_name + " " + new_name, [&] { return below_.renameat2(from, old_name, to, new_name, flags); });
}
int SimFiles::unlinkat(int directory, const std::string& name, int flags) {
  return call("unlinkat", name, [&] { return below_.unlinkat(directory, name, flags); });
}
int SimFiles::fstat(int file, struct stat& status) {
  return call("fstat", {}, [&] { return below_.fstat(file, status); });
}
int SimFiles::fstatat(int directory, const std::string& name, struct stat& status, int flags) {
  return call("fstatat", name, [&] { return below_.fstatat(directory, name, status, flags); });
}
int SimFiles::fchown(int file, uid_t owner, gid_t group) {
  return call("fchown", {}, [&] { return below_.fchown(file, owner, group); });
}
int SimFiles::fchmod(int file, mode_t mode) {
  return call("fchmod", {}, [&] { return below_.fchmod(file, mode); });
}
int SimFiles::list(int directory, std::vector<DirectoryEntry>& entries) {
  return call("list", {}, [&] { return below_.list(directory, entries); });
}
bool SimFiles::is_mount(int directory) { return below_.is_mount(directory); }

}  // namespace tessera
