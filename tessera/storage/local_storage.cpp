#include "tessera/storage/local_storage.h"

#include <cerrno>
#include <filesystem>

#include "tessera/storage/local_commit.h"
#include "tessera/storage/local_directory.h"
#include "tessera/storage/local_file.h"
#include "tessera/storage/names.h"
#include "tessera/storage/write_probe.h"

namespace tessera {
namespace {

constexpr mode_t file_mode = 0666;  // the umask decides, as for everything a person makes

// Absolute, so that a program may change its directory; without the '/' at the end, so that the last name is one.
std::string settled(const std::string& root) {
  if (root.empty()) throw Error({.code = Code::invalid_argument, .what = "an empty directory name"});
  std::error_code failure;
  std::string path = std::filesystem::absolute(root, failure).string();
  if (failure) throw Error(os_fault(failure.value(), "resolve the directory", root));
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

// True if nothing can be renamed onto `inner`, a directory in `outer`: found out before a long save and not at its end.
bool closed_to_rename(const Descriptor& inner, const Descriptor& outer, const Path& path) {
  struct stat in{};
  struct stat out{};
  if (inner.files().fstat(inner.number(), in) != 0 || outer.files().fstat(outer.number(), out) != 0)
    throw Error(os_fault(errno, "stat", path));
  return in.st_dev != out.st_dev || inner.files().is_mount(inner.number());
}

std::chrono::system_clock::time_point time_of(const timespec& time) {
  const auto since_epoch = std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
  return std::chrono::system_clock::time_point(std::chrono::duration_cast<std::chrono::system_clock::duration>(since_epoch));
}

// Makes the directories on the way to `path`, and returns the last.
Path make_parents(const LocalRoot& root, const Path& path) {
  std::vector<std::string> names = names_of(path);
  if (names.empty()) throw Error({.code = Code::invalid_argument, .what = "a target that names nothing"});
  names.pop_back();
  Path parent;
  for (const std::string& name : names) {
    const Path next = below(parent, name);
    make_directory(open_directory(root, parent), name, next);
    parent = next;
  }
  return parent;
}

// The directory that is to be replaced or removed; closed if there is none. Error(exists) if something else is there.
Descriptor open_target(const LocalRoot& root, const Path& target) {
  struct stat status{};
  const Slot at = slot_of(root, target);
  if (at.parent.files().fstatat(at.parent.number(), at.name, status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return {};
    throw Error(os_fault(errno, "look for", target));
  }
  if (!S_ISDIR(status.st_mode)) throw Error({.code = Code::exists, .what = "something is there that is no directory", .file = target});
  return open_directory(root, target);
}

}  // namespace

LocalStorage::LocalStorage(std::string root, FileSystem& files) : root_(std::move(root)), place_{files, settled(root_)} {}

std::unique_ptr<FileWriter> LocalStorage::create(const Path& file) {
  const Slot at = slot_of(place_, file);
  constexpr int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
  Descriptor made(place_.files, place_.files.openat(at.parent.number(), at.name, flags, file_mode));
  if (!made) throw Error(os_fault(errno, "create", file));
  return local_writer(std::move(made), file);
}

std::unique_ptr<ByteSource> LocalStorage::open(const Path& file) const {
  const Slot at = slot_of(place_, file);
  // O_NONBLOCK: opening a pipe must not wait for its other end.
  constexpr int flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY;
  Descriptor opened(place_.files, place_.files.openat(at.parent.number(), at.name, flags, 0));
  if (!opened) throw Error(os_fault(errno, errno == ELOOP ? "open, as it is a symbolic link" : "open", file));
  struct stat status{};
  if (place_.files.fstat(opened.number(), status) != 0) throw Error(os_fault(errno, "stat", file));
  if (!S_ISREG(status.st_mode)) throw Error({.code = Code::io, .what = "not a regular file", .file = file});
  return local_source(std::move(opened), file, status.st_size);
}

std::vector<DirectoryEntry> LocalStorage::list(const Path& directory) const {
  const Descriptor opened = open_directory(place_, directory);
  std::vector<DirectoryEntry> entries = entries_of(opened, directory.empty() ? root_ : directory);
  for (DirectoryEntry& entry : entries) {
    struct stat status{};
    if (place_.files.fstatat(opened.number(), entry.name, status, AT_SYMLINK_NOFOLLOW) == 0) entry.modified = time_of(status.st_mtim);
  }
  return entries;
}

bool LocalStorage::exists(const Path& path) const {
  try {
    if (names_of(path).empty()) return bool(open_directory(place_, ""));
    const Slot at = slot_of(place_, path);
    struct stat status{};
    if (at.parent.files().fstatat(at.parent.number(), at.name, status, AT_SYMLINK_NOFOLLOW) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    throw Error(os_fault(errno, "look for", path));
  } catch (const Error& error) {
    if (error.code() == Code::not_found) return false;
    throw;
  }
}

Path LocalStorage::stage(const Path& target, const std::string& id) {
  const std::string name = staging_name(id);
  refuse_own_names(target);
  if (!names_of(target).empty()) {
    make_root(place_, root_was_synced_);
    root_was_synced_ = true;
  }
  const Path parent = make_parents(place_, target);
  const Descriptor outer = open_directory(place_, parent);
  const Descriptor inner = open_target(place_, target);
  const auto make_in = [&](const Descriptor& where, const Path& path) {
    const Path staging = below(path, name);
    const auto made = capture([&] { return make_directory(where, name, staging); });
    if (!made) {
      capture([&] { remove(staging); });  // it may be there all the same, its name not durable; nobody else will know of it
      throw Error(made.fault);
    }
    if (!*made.value) throw Error({.code = Code::exists, .what = "the staging directory exists", .file = staging});
    return staging;
  };
  if (!inner) return make_in(outer, parent);
  if (closed_to_rename(inner, outer, target)) return make_in(inner, target);
  const auto beside = capture([&] { return make_in(outer, parent); });
  const int why = beside.fault.os_errno;
  if (!beside && (why == EACCES || why == EPERM || why == EROFS)) return make_in(inner, target);
  if (!beside) throw Error(beside.fault);
  const auto inherited = capture([&] { inherit(inner, open_directory(place_, *beside.value), *beside.value); });
  if (!inherited) {
    capture([&] { remove(*beside.value); });
    throw Error(inherited.fault);
  }
  return *beside.value;
}

WriteChoice LocalStorage::write_choice(const Path& directory) const {
  if (&place_.files != &posix()) return {};
  const auto known = capture([&] { return known_choice(open_directory(place_, directory).number()); });
  return known && *known.value ? **known.value : WriteChoice{};
}

void LocalStorage::sync(const Path& directory) { sync_descriptor(open_directory(place_, directory), directory); }

void LocalStorage::commit(const Path& staging, const Path& target, const std::string& last, Replace replace,
                          const MayReplace& may_replace) {
  if (!exists(staging + "/" + last))
    throw Error({.code = Code::not_found, .what = "the staged directory is not complete", .file = staging});
  sync(staging);
  if (split(staging).parent != target) return commit_beside(place_, staging, target, replace, may_replace);
  commit_inside(place_, staging, target, last);
}

void LocalStorage::commit_file(const Path& staged, const Path& target, Replace replace) {
  const Slot from = slot_of(place_, staged);
  const Slot to = slot_of(place_, target);
  struct stat status{};
  const bool there = to.parent.files().fstatat(to.parent.number(), to.name, status, AT_SYMLINK_NOFOLLOW) == 0;
  if (there && (replace == Replace::never || !S_ISREG(status.st_mode))) {
    throw Error({.code = Code::exists,
                 .what = S_ISREG(status.st_mode) ? "the file exists" : "something is there that is no file",
                 .file = target,
                 .hint = "choose another place, or ask for it to be replaced"});
  }
  if (there) {
    if (place_.files.renameat2(from.parent.number(), from.name, to.parent.number(), to.name, 0) != 0)
      throw Error(os_fault(errno, "rename", target));
  } else {
    move_to_free_name(from, to, target);
  }
  sync_descriptor(to.parent, target);
}

void LocalStorage::remove(const Path& directory) {
  if (!exists(directory)) return;
  const Slot at = slot_of(place_, directory);
  if (!open_target(place_, directory)) return;
  // Whatever name it has, it gets a new one first: who still fills it, or is about to swap it with a checkpoint, then finds nothing. Once
  // that is durable, so is every swap before it, and what is in it may go.
  const std::string trash = trash_name();
  if (place_.files.renameat2(at.parent.number(), at.name, at.parent.number(), trash, 0) != 0) {
    if (errno == ENOENT) return;  // somebody else was faster
    throw Error(os_fault(errno, "move to trash", directory));
  }
  sync_descriptor(at.parent, directory);
  delete_directory(at.parent, trash, directory);
}

}  // namespace tessera
