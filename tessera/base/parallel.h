// tessera/base/parallel.h: the same work for many things, on several cores where there are some. For work that computes; what waits for
// disks and peers has threads of its own kind.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

namespace tessera {

// How many threads are worth it for so many pieces of work, when one thread is to have at least `each` of them: one, up to as many as
// there are cores, and no more than 16.
int threads_for(int64_t pieces, int64_t each);

// Runs work(0) … work(count − 1) on the caller and up to `threads` − 1 more, and returns when all of it is done. Numbers are begun in
// order. Where the system has no more threads to give, fewer do it.
// Errors  What the lowest number threw; higher ones may then not have run.
void in_parallel(size_t count, int threads, const std::function<void(size_t)>& work);

}  // namespace tessera
