// tessera/storage/descriptor.h: a file descriptor that closes itself, and the walk from a root to a name below it.
#pragma once

#include <string>
#include <utility>

#include "tessera/storage/file_system.h"

namespace tessera {

class Descriptor {
 public:
  Descriptor() = default;
  Descriptor(FileSystem& files, int number) : files_(&files), number_(number) {}
  Descriptor(Descriptor&& other) noexcept : files_(other.files_), number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(files_, other.files_);
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();
  int number() const { return number_; }
  int release() { return std::exchange(number_, -1); }
  explicit operator bool() const { return number_ >= 0; }
  // What it was opened on. An empty one has none.
  FileSystem& files() const { return *files_; }

 private:
  FileSystem* files_ = nullptr;
  int number_ = -1;
};

// Where a local storage lives: an absolute path of a file system.
struct LocalRoot {
  FileSystem& files;
  std::string path;
};

// The directory `path` below `root`, opened for use with the *at calls. Follows no link below the root.
// Errors  Error(not_found, io) naming the path.
Descriptor open_directory(const LocalRoot& root, const Path& path);

// fsync, as the given path is known in messages.
void sync_descriptor(const Descriptor& descriptor, const Path& path);

}  // namespace tessera
