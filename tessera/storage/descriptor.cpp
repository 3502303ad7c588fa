#include "tessera/storage/descriptor.h"

#include <cerrno>

#include "tessera/storage/names.h"

namespace tessera {
namespace {

// With O_DIRECTORY a link is ENOTDIR to the system, as a file is. A person wants to know which, and "not found" is it not.
[[noreturn]] void refuse_directory(const Descriptor& parent, const std::string& name, const Path& path) {
  const int why = errno;
  struct stat status{};
  if ((why == ENOTDIR || why == ELOOP) && parent.files().fstatat(parent.number(), name, status, AT_SYMLINK_NOFOLLOW) == 0 &&
      S_ISLNK(status.st_mode)) {
    throw Error(
        {.code = Code::io, .what = "a symbolic link where a directory should be", .file = path, .hint = "name the place that it leads to"});
  }
  throw Error(os_fault(why, "open the directory", path));
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) files_->close(number_);
}

Descriptor open_directory(const LocalRoot& root, const Path& path) {
  constexpr int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  // The root itself may be reached through links: a person named it.
  Descriptor at(root.files, root.files.openat(AT_FDCWD, root.path, flags, 0));
  if (!at) throw Error(os_fault(errno, "open the directory", root.path));
  Path so_far;
  for (const std::string& name : names_of(path)) {
    so_far += (so_far.empty() ? "" : "/") + name;
    Descriptor next(root.files, root.files.openat(at.number(), name, flags | O_NOFOLLOW, 0));
    if (!next) refuse_directory(at, name, so_far);
    at = std::move(next);
  }
  return at;
}

void sync_descriptor(const Descriptor& descriptor, const Path& path) {
  if (descriptor.files().fsync(descriptor.number()) != 0) throw Error(os_fault(errno, "sync", path));
}

}  // namespace tessera
