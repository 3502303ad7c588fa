#include "tessera/storage/local_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <memory>

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
    } else if (::unlinkat(directory.number(), entry.name.c_str(), 0) != 0 && errno != ENOENT) {
      throw Error(os_fault(errno, "remove", inner));
    }
  }
}

}  // namespace

Slot slot_of(const std::string& root, const Path& path) {
  if (names_of(path).empty()) throw Error({.code = Code::invalid_argument, .what = "a path that names nothing"});
  const Split at = split(path);
  return {open_directory(root, at.parent), at.name};
}

std::vector<DirectoryEntry> entries_of(const Descriptor& directory, const Path& path) {
  const auto close_it = [](DIR* stream) { ::closedir(stream); };
  // Opened anew: a dup() would share the place that an earlier listing came to.
  Descriptor again(::openat(directory.number(), ".", open_flags));
  const std::unique_ptr<DIR, decltype(close_it)> stream(again ? ::fdopendir(again.number()) : nullptr, close_it);
  if (!stream) throw Error(os_fault(errno, "list the directory", path));
  again.release();
  std::vector<DirectoryEntry> entries;
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (!entry && errno) throw Error(os_fault(errno, "list the directory", path));
    if (!entry) return entries;
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    bool is_directory = entry->d_type == DT_DIR;
    if (entry->d_type == DT_UNKNOWN) {
      struct stat status{};
      is_directory = ::fstatat(::dirfd(stream.get()), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
    }
    entries.push_back({name, is_directory});
  }
}

bool make_directory(const Descriptor& parent, const std::string& name, const Path& path) {
  const bool made = ::mkdirat(parent.number(), name.c_str(), directory_mode) == 0;
  if (!made && errno != EEXIST) throw Error(os_fault(errno, "make the directory", path));
  // Also where another process made it: it may not have come to this line.
  sync_descriptor(parent.number(), path);
  return made;
}

void make_root(const std::string& root) {
  const std::filesystem::path path = root;
  std::error_code failure;
  if (std::filesystem::is_directory(path, failure)) return;
  const std::filesystem::path parent = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  if (parent == path) throw Error({.code = Code::not_found, .what = "no such directory", .file = root});
  make_root(parent.string());
  make_directory(open_directory(parent.string(), ""), path.filename().string(), root);
}

void inherit(const Descriptor& from, const Descriptor& to, const Path& path) {
  struct stat old{};
  if (::fstat(from.number(), &old) != 0) throw Error(os_fault(errno, "stat", path));
  // Not allowed to most; the directory then belongs to who made it.
  if (::fchown(to.number(), old.st_uid, old.st_gid) != 0) errno = 0;
  if (::fchmod(to.number(), old.st_mode & 07777) != 0) throw Error(os_fault(errno, "change the mode", path));
}

namespace {

void move_without_replacing(int from, const char* old_name, int to, const char* new_name, const Path& path) {
  if (::renameat2(from, old_name, to, new_name, RENAME_NOREPLACE) == 0) return;
  if (errno != EINVAL && errno != ENOSYS) throw Error(os_fault(errno, "move", path));
  if (::linkat(from, old_name, to, new_name, 0) != 0) throw Error(os_fault(errno, "link", path));
  if (::unlinkat(from, old_name, 0) != 0) errno = 0;  // a second name is left where it was, and does no harm
}

}  // namespace

void move_to_free_name(const Descriptor& from, const Descriptor& to, const std::string& name, const Path& path) {
  move_without_replacing(from.number(), name.c_str(), to.number(), name.c_str(), path);
}

void move_to_free_name(const Slot& from, const Slot& to, const Path& path) {
  move_without_replacing(from.parent.number(), from.name.c_str(), to.parent.number(), to.name.c_str(), path);
}

void delete_directory(const Descriptor& parent, const std::string& name, const Path& path) {
  const Descriptor directory(::openat(parent.number(), name.c_str(), open_flags));
  if (!directory && errno == ENOENT) return;
  if (!directory) throw Error(os_fault(errno, "open the directory", path));
  empty_directory(directory, path);
  if (::unlinkat(parent.number(), name.c_str(), AT_REMOVEDIR) != 0 && errno != ENOENT) throw Error(os_fault(errno, "remove", path));
}

}  // namespace tessera
