// tessera/storage/descriptor.h: a file descriptor that closes itself, and the walk from a root to a name below it.
#pragma once

#include <string>
#include <utility>

#include "tessera/storage/storage.h"

namespace tessera {

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor();
  int number() const { return number_; }
  int release() { return std::exchange(number_, -1); }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_;
};

// The directory `path` below `root`, opened for use with the *at calls. Follows no link below the root.
// Errors  Error(not_found, io) naming the path.
Descriptor open_directory(const std::string& root, const Path& path);

// fsync, as the given path is known in messages.
void sync_descriptor(int number, const Path& path);

}  // namespace tessera
