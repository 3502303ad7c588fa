// tessera/storage/local_file.h: one file of a local file system, being written or being read.
#pragma once

#include <memory>

#include "tessera/storage/descriptor.h"

namespace tessera {

// Both take over an open descriptor of a regular file; `file` is its name in messages.
std::unique_ptr<FileWriter> local_writer(Descriptor descriptor, Path file);
std::unique_ptr<ByteSource> local_source(Descriptor descriptor, Path file, int64_t size_bytes);

}  // namespace tessera
