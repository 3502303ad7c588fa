#include "tessera/storage/local_directory.h"

#include <stdio.h>  // RENAME_NOREPLACE

#include <cerrno>
#include <filesystem>

#include "tessera/storage/names.h"

namespace tessera {
namespace {

constexpr mode_t directory_mode = 0777;  // the umask decides, as for everything a person makes
constexpr int open_flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;

void empty_directory(const Descriptor& directory, const Path& path) {
  for (const DirectoryEntry& entry : entries_of(directory, path)) {
    const Path inner = path + "/" + entry.name;
    if (entry.is_directory) {
      delete_directory(directory, entry.name, inner);
    } else if (directory.files().unlinkat(directory.number(), entry.name, 0) != 0 && errno != ENOENT) {
      throw Error(os_fault(errno, "remove", inner));
    }
  }
}

}  // namespace

Slot slot_of(const LocalRoot& root, const Path& path) {
  if (names_of(path).empty()) throw Error({.code = Code::invalid_argument, .what = "a path that names nothing"});
  const Split at = split(path);
  return {open_directory(root, at.parent), at.name};
}

std::vector<DirectoryEntry> entries_of(const Descriptor& directory, const Path& path) {
  std::vector<DirectoryEntry> entries;
  if (directory.files().list(directory.number(), entries) != 0) throw Error(os_fault(errno, "list the directory", path));
  return entries;
}

bool make_directory(const Descriptor& parent, const std::string& name, const Path& path) {
  const bool made = parent.files().mkdirat(parent.number(), name, directory_mode) == 0;
  if (!made && errno != EEXIST) throw Error(os_fault(errno, "make the directory", path));
  // Also where another process made it: it may not have come to this line.
  sync_descriptor(parent, path);
  return made;
}

namespace {

// The name of a directory that is there may not be durable: whoever made it may have been killed before it came to that. Where this
// is not ours to do (a directory that we may not read, a file system that cannot or need not), somebody else made it.
void sync_name(const LocalRoot& parent, const std::string& path) {
  const auto opened = capture([&] { return open_directory(parent, ""); });
  if (!opened && (opened.fault.os_errno == EACCES || opened.fault.os_errno == EPERM)) return;
  if (!opened) throw Error(opened.fault);
  if (parent.files.fsync(opened.value->number()) == 0 || errno == EINVAL || errno == EROFS) return;
  throw Error(os_fault(errno, "sync", path));
}

}  // namespace

void make_root(const LocalRoot& root, bool was_synced) {
  const std::filesystem::path path = root.path;
  const LocalRoot parent{root.files, path.parent_path().string()};
  struct stat status{};
  const bool there = root.files.fstatat(AT_FDCWD, root.path, status, 0) == 0;
  if (!there && errno != ENOENT && errno != ENOTDIR) throw Error(os_fault(errno, "look for the directory", root.path));
  if (there && S_ISDIR(status.st_mode)) {
    if (!was_synced) sync_name(parent, root.path);
    return;
  }
  if (parent.path == root.path) throw Error({.code = Code::not_found, .what = "no such directory", .file = root.path});
  make_root(parent, false);
  make_directory(open_directory(parent, ""), path.filename().string(), root.path);
}

void inherit(const Descriptor& from, const Descriptor& to, const Path& path) {
  struct stat old{};
  if (from.files().fstat(from.number(), old) != 0) throw Error(os_fault(errno, "stat", path));
  // Not allowed to most; the directory then belongs to who made it.
  if (to.files().fchown(to.number(), old.st_uid, old.st_gid) != 0) errno = 0;
  if (to.files().fchmod(to.number(), old.st_mode & 07777) != 0) throw Error(os_fault(errno, "change the mode", path));
}

namespace {

void move_without_replacing(const Descriptor& from, const std::string& old_name, const Descriptor& to, const std::string& new_name,
                            const Path& path) {
  FileSystem& files = from.files();
  if (files.renameat2(from.number(), old_name, to.number(), new_name, RENAME_NOREPLACE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) throw Error(os_fault(errno, "move", path));
  if (files.linkat(from.number(), old_name, to.number(), new_name, 0) != 0) throw Error(os_fault(errno, "link", path));
  if (files.unlinkat(from.number(), old_name, 0) != 0) errno = 0;  // a second name is left where it was, and does no harm
}

}  // namespace

void move_to_free_name(const Descriptor& from, const Descriptor& to, const std::string& name, const Path& path) {
  move_without_replacing(from, name, to, name, path);
}

void move_to_free_name(const Slot& from, const Slot& to, const Path& path) {
  move_without_replacing(from.parent, from.name, to.parent, to.name, path);
}

void delete_directory(const Descriptor& parent, const std::string& name, const Path& path) {
  const Descriptor directory(parent.files(), parent.files().openat(parent.number(), name, open_flags, 0));
  if (!directory && errno == ENOENT) return;
  if (!directory) throw Error(os_fault(errno, "open the directory", path));
  empty_directory(directory, path);
  if (parent.files().unlinkat(parent.number(), name, AT_REMOVEDIR) != 0 && errno != ENOENT) throw Error(os_fault(errno, "remove", path));
}

}  // namespace tessera
