#include "tessera/storage/local_storage.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "tessera/storage/descriptor.h"
#include "tessera/storage/local_file.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

constexpr mode_t directory_mode = 0777;  // the umask decides, as for everything a person makes
constexpr mode_t file_mode = 0666;

struct Place {
  Descriptor parent;
  std::string name;
};
Place place_of(const std::string& root, const Path& path) {
  const Split at = split(path);
  if (names_of(path).empty()) throw Error({.code = Code::invalid_argument, .what = "a path that names nothing"});
  return {open_directory(root, at.parent), at.name};
}

std::vector<DirectoryEntry> entries_of(Descriptor directory, const Path& path) {
  const auto close_it = [](DIR* stream) { ::closedir(stream); };
  const std::unique_ptr<DIR, decltype(close_it)> stream(::fdopendir(directory.number()), close_it);
  if (!stream) throw Error(os_fault(errno, "list the directory", path));
  directory.release();
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
      struct stat status {};
      is_directory = ::fstatat(::dirfd(stream.get()), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
    }
    entries.push_back({name, is_directory});
  }
}

// Makes a directory of the given name, durably. False if it is there already.
bool make_directory(const Descriptor& parent, const std::string& name, const Path& path) {
  if (::mkdirat(parent.number(), name.c_str(), directory_mode) != 0) {
    if (errno == EEXIST) return false;
    throw Error(os_fault(errno, "make the directory", path));
  }
  sync_descriptor(parent.number(), path);
  return true;
}

// Makes the root, and what is missing above it, each name synced in its parent.
void make_root(const std::filesystem::path& root) {
  if (std::filesystem::is_directory(root)) return;
  const std::filesystem::path parent = root.has_parent_path() ? root.parent_path() : std::filesystem::path(".");
  if (parent != root) make_root(parent);
  make_directory(open_directory(parent.string(), ""), root.filename().string(), root.string());
}

// Deletes everything in a directory, following no link.
void empty_directory(const Descriptor& directory, const Path& path) {
  for (const DirectoryEntry& entry : entries_of(Descriptor(::dup(directory.number())), path)) {
    const Path inner = path + "/" + entry.name;
    if (entry.is_directory) {
      Descriptor next(::openat(directory.number(), entry.name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
      if (!next) throw Error(os_fault(errno, "open the directory", inner));
      empty_directory(next, inner);
    }
    if (::unlinkat(directory.number(), entry.name.c_str(), entry.is_directory ? AT_REMOVEDIR : 0) != 0 && errno != ENOENT) {
      throw Error(os_fault(errno, "remove", inner));
    }
  }
}

// Deletes a directory that is out of sight already.
void delete_directory(const Place& at, const Path& path) {
  Descriptor directory(::openat(at.parent.number(), at.name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
  if (!directory) throw Error(os_fault(errno, "open the directory", path));
  empty_directory(directory, path);
  if (::unlinkat(at.parent.number(), at.name.c_str(), AT_REMOVEDIR) != 0) throw Error(os_fault(errno, "remove", path));
}

[[noreturn]] void refuse_full(const Path& target) {
  throw Error({.code = Code::exists, .what = "something is there already", .file = target, .hint = "choose another place, or ask for it to be replaced"});
}

// Staged inside the target: every file moves up one directory, `last` at the end and only where none of its name is.
void commit_from_inside(const std::string& root, const Path& staging, const Path& target, const std::string& last, Replace replace) {
  const std::string inner = split(staging).name;
  Descriptor to = open_directory(root, target);
  for (const DirectoryEntry& entry : entries_of(Descriptor(::dup(to.number())), target)) {
    if (entry.name != inner) {
      if (replace != Replace::never) {
        throw Error({.code = Code::unsupported, .what = "a directory whose parent is closed to us cannot be replaced", .file = target});
      }
      refuse_full(target);
    }
  }
  Descriptor from = open_directory(root, staging);
  for (const DirectoryEntry& entry : entries_of(Descriptor(::dup(from.number())), staging)) {
    if (entry.name == last) continue;
    if (::renameat(from.number(), entry.name.c_str(), to.number(), entry.name.c_str()) != 0) throw Error(os_fault(errno, "move", staging + "/" + entry.name));
  }
  sync_descriptor(to.number(), target);
  if (::linkat(from.number(), last.c_str(), to.number(), last.c_str(), 0) != 0) {
    if (errno == EEXIST) refuse_full(target);
    throw Error(os_fault(errno, "link", target + "/" + last));
  }
  sync_descriptor(to.number(), target);
  // The checkpoint stands. What is left is a second name for its last file.
  ::unlinkat(from.number(), last.c_str(), 0);
  ::unlinkat(to.number(), inner.c_str(), AT_REMOVEDIR);
}

}  // namespace

LocalStorage::LocalStorage(std::string root) : root_(std::move(root)) {
  if (root_.empty()) throw Error({.code = Code::invalid_argument, .what = "an empty directory name"});
}

std::unique_ptr<FileWriter> LocalStorage::create(const Path& file) {
  const Place at = place_of(root_, file);
  Descriptor made(::openat(at.parent.number(), at.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, file_mode));
  if (!made) throw Error(os_fault(errno, "create", file));
  return local_writer(std::move(made), file);
}

std::unique_ptr<ByteSource> LocalStorage::open(const Path& file) const {
  const Place at = place_of(root_, file);
  // O_NONBLOCK: opening a pipe must not wait for its other end.
  Descriptor opened(::openat(at.parent.number(), at.name.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!opened) throw Error(os_fault(errno, errno == ELOOP ? "open, as it is a symbolic link" : "open", file));
  struct stat status {};
  if (::fstat(opened.number(), &status) != 0) throw Error(os_fault(errno, "stat", file));
  if (!S_ISREG(status.st_mode)) throw Error({.code = Code::io, .what = "not a regular file", .file = file});
  return local_source(std::move(opened), file, status.st_size);
}

std::vector<DirectoryEntry> LocalStorage::list(const Path& directory) const {
  return entries_of(open_directory(root_, directory), directory.empty() ? root_ : directory);
}

bool LocalStorage::exists(const Path& path) const {
  try {
    if (names_of(path).empty()) return bool(open_directory(root_, ""));
    const Place at = place_of(root_, path);
    struct stat status {};
    if (::fstatat(at.parent.number(), at.name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    throw Error(os_fault(errno, "look for", path));
  } catch (const Error& error) {
    if (error.code() == Code::not_found) return false;
    throw;
  }
}

Path LocalStorage::stage(const Path& target, const std::string& id) {
  const std::vector<std::string> names = names_of(target);
  if (names.empty()) throw Error({.code = Code::invalid_argument, .what = "a target that names nothing"});
  make_root(root_);
  Path parent;
  for (size_t i = 0; i + 1 < names.size(); ++i) {
    make_directory(open_directory(root_, parent), names[i], parent);
    parent += (i ? "/" : "") + names[i];
  }
  const std::string name = staging_name(id);
  const auto make_in = [&](const Path& where) {
    const Path staging = where.empty() ? name : where + "/" + name;
    if (!make_directory(open_directory(root_, where), name, staging)) throw Error({.code = Code::exists, .what = "the staging directory exists", .file = staging});
    return staging;
  };
  // A rename across file systems fails at the end of a long save: find out before it.
  if (exists(target)) {
    struct stat inner {};
    struct stat outer {};
    if (::fstat(open_directory(root_, target).number(), &inner) == 0 && ::fstat(open_directory(root_, parent).number(), &outer) == 0 &&
        inner.st_dev != outer.st_dev) {
      return make_in(target);
    }
  }
  const auto beside = capture([&] { return make_in(parent); });
  if (beside) return *beside.value;
  const int why = beside.fault.os_errno;
  if ((why == EACCES || why == EPERM || why == EROFS) && exists(target)) return make_in(target);
  throw Error(beside.fault);
}

void LocalStorage::sync(const Path& directory) { sync_descriptor(open_directory(root_, directory).number(), directory); }

void LocalStorage::commit(const Path& staging, const Path& target, const std::string& last, Replace replace) {
  if (!exists(staging + "/" + last)) throw Error({.code = Code::not_found, .what = "the staged directory is not complete", .file = staging});
  if (split(staging).parent == target) return commit_from_inside(root_, staging, target, last, replace);
  const Place from = place_of(root_, staging);
  const Place to = place_of(root_, target);
  // Succeeds where the target is absent or an empty directory, and cannot touch a full one.
  if (::renameat(from.parent.number(), from.name.c_str(), to.parent.number(), to.name.c_str()) == 0) return sync_descriptor(to.parent.number(), target);
  if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) throw Error(os_fault(errno, "rename", target));
  if (replace == Replace::never) refuse_full(target);
  const bool swapped = ::renameat2(from.parent.number(), from.name.c_str(), to.parent.number(), to.name.c_str(), RENAME_EXCHANGE) == 0;
  if (swapped) {
    sync_descriptor(to.parent.number(), target);
    return remove(staging);  // which names the old content now
  }
  if (replace == Replace::exchange) {
    Fault fault = os_fault(errno, "exchange", target);
    fault.hint = "this file system cannot swap directories; Replace::with_gap risks a moment without a checkpoint";
    throw Error(std::move(fault));
  }
  const std::string aside = trash_name();
  if (::renameat(to.parent.number(), to.name.c_str(), to.parent.number(), aside.c_str()) != 0) throw Error(os_fault(errno, "move aside", target));
  if (::renameat(from.parent.number(), from.name.c_str(), to.parent.number(), to.name.c_str()) != 0) throw Error(os_fault(errno, "rename", target));
  sync_descriptor(to.parent.number(), target);
  const Path parent = split(target).parent;
  delete_directory({open_directory(root_, parent), aside}, aside);
}

void LocalStorage::remove(const Path& directory) {
  if (!exists(directory)) return;
  Place at = place_of(root_, directory);
  if (is_staging_name(at.name) || is_trash_name(at.name)) return delete_directory(at, directory);
  const std::string trash = trash_name();
  if (::renameat(at.parent.number(), at.name.c_str(), at.parent.number(), trash.c_str()) != 0) throw Error(os_fault(errno, "move to trash", directory));
  sync_descriptor(at.parent.number(), directory);
  at.name = trash;
  delete_directory(at, directory);
}

}  // namespace tessera
