// tessera/base/large_pages.h: memory for millions of small things, on large pages where the system grants them: a quarter of the time of
// building a large graph is else the kernel's, which hands out memory 4 KiB at a time.
// Errors      std::bad_alloc.
// Threads     Safe from many threads at once.
#pragma once

#include <memory_resource>

namespace tessera {

// Backs the arenas of others, as a std::pmr::monotonic_buffer_resource. Small blocks are those of operator new.
std::pmr::memory_resource& large_pages();

}  // namespace tessera
