#include "tessera/storage/descriptor.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "tessera/storage/names.h"

namespace tessera {
namespace {

// With O_DIRECTORY a link is ENOTDIR to the system, as a file is. A person wants to know which, and "not found" is it not.
[[noreturn]] void refuse_directory(const Descriptor& parent, const std::string& name, const Path& path) {
  const int why = errno;
  struct stat status{};
  if ((why == ENOTDIR || why == ELOOP) && ::fstatat(parent.number(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) == 0 &&
      S_ISLNK(status.st_mode)) {
    throw Error(
        {.code = Code::io, .what = "a symbolic link where a directory should be", .file = path, .hint = "name the place that it leads to"});
  }
  throw Error(os_fault(why, "open the directory", path));
}

}  // namespace

Descriptor::~Descriptor() {
  if (number_ >= 0) ::close(number_);
}

Descriptor open_directory(const std::string& root, const Path& path) {
  constexpr int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
  Descriptor at(::open(root.c_str(), flags));  // the root itself may be reached through links: a person named it
  if (!at) throw Error(os_fault(errno, "open the directory", root));
  Path so_far;
  for (const std::string& name : names_of(path)) {
    so_far += (so_far.empty() ? "" : "/") + name;
    Descriptor next(::openat(at.number(), name.c_str(), flags | O_NOFOLLOW));
    if (!next) refuse_directory(at, name, so_far);
    at = std::move(next);
  }
  return at;
}

void sync_descriptor(int number, const Path& path) {
  if (::fsync(number) != 0) throw Error(os_fault(errno, "sync", path));
}

}  // namespace tessera
