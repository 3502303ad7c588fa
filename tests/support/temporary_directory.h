// tests/support/temporary_directory.h: a directory for one test, gone after it whether it passed or failed.
#pragma once

#include <string>

namespace tessera {

class TemporaryDirectory {
 public:
  TemporaryDirectory();  // below TMPDIR, or /tmp
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace tessera
