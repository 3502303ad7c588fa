#include "tests/support/sim_disk.h"

#include <stdio.h>  // RENAME_EXCHANGE

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "tests/support/spared.h"

namespace tessera {
namespace {

constexpr int first_descriptor = 1'000'000;  // so that one that strays to the real system is none there
constexpr mode_t directory_mode = 0755;

void fill(struct stat& status, int number, const Inode& inode) {
  status = {};
  status.st_dev = 1;
  status.st_ino = static_cast<ino_t>(number);
  status.st_mode = inode.mode | (inode.is_directory ? S_IFDIR : S_IFREG);
  status.st_size = static_cast<off_t>(inode.data.size());
}

void add_tree(const DiskImage& image, int number, const std::string& path, std::map<std::string, std::string>& found) {
  for (const auto& [name, inner] : image.at(number).names) {
    const Inode& inode = image.at(inner);
    const std::string inner_path = path + "/" + name;
    if (inode.is_directory) {
      found.emplace(inner_path + "/", "");
      add_tree(image, inner, inner_path, found);
    } else {
      found.emplace(inner_path, as_text(inode.data));
    }
  }
}

}  // namespace

DiskImage empty_disk() { return {{root_inode, {.is_directory = true, .mode = directory_mode}}}; }

std::map<std::string, std::string> tree_of(const DiskImage& image) {
  std::map<std::string, std::string> found;
  add_tree(image, root_inode, "", found);
  return found;
}

std::string describe(const Change& change) {
  const std::string which = std::to_string(change.inode);
  if (change.kind == Change::Kind::sync) return "sync " + which;
  if (change.kind == Change::Kind::write) {
    return "write " + which + " at " + std::to_string(change.offset_bytes) + ", " + std::to_string(change.bytes.size()) + " bytes";
  }
  std::string text = "names";
  for (const Change::Name& name : change.names) {
    text += " " + std::to_string(name.directory) + "/" + name.name + "=" + (name.inode ? std::to_string(name.inode) : "none");
  }
  return text;
}

void put(Bytes& data, const Change& write) {
  data.resize(std::max(data.size(), static_cast<size_t>(write.offset_bytes) + write.bytes.size()));
  std::ranges::copy(write.bytes, data.begin() + write.offset_bytes);
}

void redo(DiskImage& image, const Change& change) {
  if (change.kind == Change::Kind::write) put(image[change.inode].data, change);
  for (const Change::Name& name : change.names) {
    if (name.inode == 0) {
      image[name.directory].names.erase(name.name);
      continue;
    }
    image[name.directory].names[name.name] = name.inode;
    image.try_emplace(name.inode, Inode{.is_directory = name.is_directory, .mode = directory_mode});
  }
}

SimDisk::SimDisk(const SimDiskOptions& options, DiskImage image) : options_(options) {
  state_.with([&](State& state) {
    state.next_inode = image.rbegin()->first + 1;
    state.next_descriptor = first_descriptor;
    state.recording.base = image;
    state.image = std::move(image);
  });
}

// `work` returns what the call does: 0 or more, or -errno.
template <class Work>
auto SimDisk::locked(Work work) const {
  const Spared spared;  // the system needs none of our memory
  auto result = state_.with(work);
  if (result >= 0) return result;
  errno = static_cast<int>(-result);
  return decltype(result){-1};
}

Recording SimDisk::recording() const {
  return state_.with([](State& state) { return state.recording; });
}
size_t SimDisk::changes() const {
  return state_.with([](State& state) { return state.recording.changes.size(); });
}
void SimDisk::settle() {
  state_.with([](State& state) { state.recording = {state.image, {}}; });
}
DiskImage SimDisk::image() const {
  return state_.with([](State& state) { return state.image; });
}
int SimDisk::open_descriptors() const {
  return state_.with([](State& state) { return static_cast<int>(state.open.size()); });
}
void SimDisk::mount(const std::string& path) {
  state_.with([&](State& state) {
    const int inode = find(state, AT_FDCWD, path).inode;
    state.image.at(inode).is_mount = true;
    if (state.recording.base.contains(inode)) state.recording.base.at(inode).is_mount = true;
  });
}

// directory < 0 in what it returns: -errno.
SimDisk::Where SimDisk::find(const State& state, int directory, const std::string& name) {
  int at = root_inode;
  if (directory != AT_FDCWD) {
    const auto open = state.open.find(directory);
    if (open == state.open.end()) return {-EBADF, "", 0};
    at = open->second.inode;
  }
  Where where{0, "", at};
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    begin = end + 1;
    if (part.empty() || part == ".") continue;
    if (where.inode == 0) return {-ENOENT, "", 0};
    const Inode& inode = state.image.at(where.inode);
    if (!inode.is_directory) return {-ENOTDIR, "", 0};
    const auto found = inode.names.find(part);
    where = {where.inode, part, found == inode.names.end() ? 0 : found->second};
  }
  return where;
}

Inode* SimDisk::inode_of(State& state, int file) {
  const auto open = state.open.find(file);
  return open == state.open.end() ? nullptr : &state.image.at(open->second.inode);
}

void SimDisk::change(State& state, Change change) {
  redo(state.image, change);
  state.recording.changes.push_back(std::move(change));
}

int SimDisk::openat(int directory, const std::string& name, int flags, mode_t mode) {
  return locked([&](State& state) {
    Where where = find(state, directory, name);
    if (where.directory < 0) return where.directory;
    if (where.inode != 0 && (flags & O_CREAT) && (flags & O_EXCL)) return -EEXIST;
    if (where.inode == 0) {
      if (!(flags & O_CREAT)) return -ENOENT;
      where.inode = state.next_inode++;
      change(state, {.kind = Change::Kind::names, .names = {{where.directory, where.name, where.inode, false}}});
      state.image.at(where.inode).mode = mode;
    }
    const Inode& inode = state.image.at(where.inode);
    if ((flags & O_DIRECTORY) && !inode.is_directory) return -ENOTDIR;
    if ((flags & O_ACCMODE) != O_RDONLY && inode.is_directory) return -EISDIR;
    state.open[state.next_descriptor] = {where.inode, flags};
    return state.next_descriptor++;
  });
}

int SimDisk::close(int file) {
  return locked([&](State& state) { return state.open.erase(file) ? 0 : -EBADF; });
}

ssize_t SimDisk::pread(int file, void* into, size_t count, off_t offset) {
  return locked([&](State& state) -> ssize_t {
    const Inode* inode = inode_of(state, file);
    if (!inode || (state.open.at(file).flags & O_ACCMODE) == O_WRONLY) return -EBADF;
    if (inode->is_directory) return -EISDIR;
    if (offset < 0) return -EINVAL;
    const auto size = static_cast<off_t>(inode->data.size());
    const auto want = static_cast<off_t>(std::min<uint64_t>(count, static_cast<uint64_t>(options_.most_bytes)));
    const off_t got = std::clamp<off_t>(size - offset, 0, want);
    if (got > 0) std::memcpy(into, inode->data.data() + offset, static_cast<size_t>(got));
    return got;
  });
}

ssize_t SimDisk::pwrite(int file, const void* from, size_t count, off_t offset) {
  return locked([&](State& state) -> ssize_t {
    const Inode* inode = inode_of(state, file);
    if (!inode || (state.open.at(file).flags & O_ACCMODE) == O_RDONLY) return -EBADF;
    if (offset < 0) return -EINVAL;
    const size_t took = std::min<uint64_t>(count, static_cast<uint64_t>(options_.most_bytes));
    const auto* bytes = static_cast<const std::byte*>(from);
    if (took > 0) {
      change(
          state,
          {.kind = Change::Kind::write, .inode = state.open.at(file).inode, .offset_bytes = offset, .bytes = Bytes(bytes, bytes + took)});
    }
    return static_cast<ssize_t>(took);
  });
}

int SimDisk::start_writeback(int, off_t, off_t) { return 0; }  // what is written early is still not durable
int SimDisk::fsync(int file) {
  return locked([&](State& state) {
    if (!inode_of(state, file)) return -EBADF;
    change(state, {.kind = Change::Kind::sync, .inode = state.open.at(file).inode});
    return 0;
  });
}

int SimDisk::mkdirat(int directory, const std::string& name, mode_t mode) {
  return locked([&](State& state) {
    const Where where = find(state, directory, name);
    if (where.directory < 0) return where.directory;
    if (where.inode != 0) return -EEXIST;
    const int made = state.next_inode++;
    change(state, {.kind = Change::Kind::names, .names = {{where.directory, where.name, made, true}}});
    state.image.at(made).mode = mode;
    return 0;
  });
}

int SimDisk::linkat(int from, const std::string& old_name, int to, const std::string& new_name, int) {
  return locked([&](State& state) {
    const Where old_place = find(state, from, old_name);
    const Where new_place = find(state, to, new_name);
    if (old_place.directory < 0) return old_place.directory;
    if (old_place.inode == 0) return -ENOENT;
    if (new_place.directory < 0) return new_place.directory;
    if (new_place.inode != 0) return -EEXIST;
    if (state.image.at(old_place.inode).is_directory) return -EPERM;
    change(state, {.kind = Change::Kind::names, .names = {{new_place.directory, new_place.name, old_place.inode, false}}});
    return 0;
  });
}

int SimDisk::check_rename(const State& state, const Where& from, const Where& to, unsigned flags) {
  if (from.directory < 0) return from.directory;
  if (to.directory < 0) return to.directory;
  if (from.inode == 0) return -ENOENT;
  if (flags & RENAME_NOREPLACE) return to.inode == 0 ? 0 : -EEXIST;
  if (flags & RENAME_EXCHANGE) return to.inode == 0 ? -ENOENT : 0;
  if (to.inode == 0) return 0;
  const Inode& moved = state.image.at(from.inode);
  const Inode& there = state.image.at(to.inode);
  if (moved.is_directory && !there.is_directory) return -ENOTDIR;
  if (!moved.is_directory && there.is_directory) return -EISDIR;
  if (there.is_mount) return -EBUSY;
  return there.names.empty() ? 0 : -ENOTEMPTY;
}

int SimDisk::renameat2(int from, const std::string& old_name, int to, const std::string& new_name, unsigned flags) {
  return locked([&](State& state) {
    if ((flags & RENAME_EXCHANGE) && !options_.exchange) return -EINVAL;
    if ((flags & RENAME_NOREPLACE) && !options_.no_replace) return -EINVAL;
    const Where here = find(state, from, old_name);
    const Where there = find(state, to, new_name);
    const int refused = check_rename(state, here, there, flags);
    if (refused != 0 || here.inode == there.inode) return refused;
    const int back = (flags & RENAME_EXCHANGE) ? there.inode : 0;
    change(state, {.kind = Change::Kind::names,
                   .names = {{here.directory, here.name, back, back != 0 && state.image.at(back).is_directory},
                             {there.directory, there.name, here.inode, state.image.at(here.inode).is_directory}}});
    return 0;
  });
}

int SimDisk::unlinkat(int directory, const std::string& name, int flags) {
  return locked([&](State& state) {
    const Where where = find(state, directory, name);
    if (where.directory < 0) return where.directory;
    if (where.inode == 0) return -ENOENT;
    const Inode& inode = state.image.at(where.inode);
    const bool wants_directory = flags & AT_REMOVEDIR;
    if (wants_directory && !inode.is_directory) return -ENOTDIR;
    if (!wants_directory && inode.is_directory) return -EISDIR;
    if (!inode.names.empty()) return -ENOTEMPTY;
    change(state, {.kind = Change::Kind::names, .names = {{where.directory, where.name, 0, false}}});
    return 0;
  });
}

int SimDisk::fstat(int file, struct stat& status) {
  return locked([&](State& state) {
    const Inode* inode = inode_of(state, file);
    if (!inode) return -EBADF;
    fill(status, state.open.at(file).inode, *inode);
    return 0;
  });
}

int SimDisk::fstatat(int directory, const std::string& name, struct stat& status, int) {
  return locked([&](State& state) {
    const Where where = find(state, directory, name);
    if (where.directory < 0) return where.directory;
    if (where.inode == 0) return -ENOENT;
    fill(status, where.inode, state.image.at(where.inode));
    return 0;
  });
}

int SimDisk::fchown(int file, uid_t, gid_t) {
  return locked([&](State& state) { return inode_of(state, file) ? 0 : -EBADF; });
}

int SimDisk::fchmod(int file, mode_t mode) {
  return locked([&](State& state) {
    Inode* inode = inode_of(state, file);
    if (!inode) return -EBADF;
    inode->mode = mode & 07777;
    return 0;
  });
}

int SimDisk::list(int directory, std::vector<DirectoryEntry>& entries) {
  return locked([&](State& state) {
    const Inode* inode = inode_of(state, directory);
    if (!inode) return -EBADF;
    if (!inode->is_directory) return -ENOTDIR;
    for (const auto& [name, number] : inode->names) entries.push_back({name, state.image.at(number).is_directory});
    return 0;
  });
}

bool SimDisk::is_mount(int directory) {
  return state_.with([&](State& state) {
    const Inode* inode = inode_of(state, directory);
    return inode && inode->is_mount;
  });
}

}  // namespace tessera
