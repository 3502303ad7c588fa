#include "tessera/storage/descriptor.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "tessera/storage/names.h"

namespace tessera {

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
    if (!next) throw Error(os_fault(errno, errno == ELOOP ? "open the directory, which is a symbolic link" : "open the directory", so_far));
    at = std::move(next);
  }
  return at;
}

void sync_descriptor(int number, const Path& path) {
  if (::fsync(number) != 0) throw Error(os_fault(errno, "sync", path));
}

}  // namespace tessera
