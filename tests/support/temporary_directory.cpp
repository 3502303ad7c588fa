#include "tests/support/temporary_directory.h"

#include <stdlib.h>

#include <cerrno>
#include <filesystem>

#include "tessera/base/error.h"

namespace tessera {

TemporaryDirectory::TemporaryDirectory() : path_((std::filesystem::temp_directory_path() / "tessera-test-XXXXXX").string()) {
  if (!::mkdtemp(path_.data())) throw Error(os_fault(errno, "make a temporary directory", path_));
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace tessera
