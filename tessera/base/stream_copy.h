// tessera/base/stream_copy.h: a copy that goes past the processor's cache.
// For what is not looked at again soon: the lines that are written are then not read from memory first, which a copy of more than the cache
// holds would pay for with a third of its time. memcpy() does the same, but only for a single large piece.
#pragma once

#include <cstddef>

namespace tessera {

// As memcpy(). What was copied is seen by other threads as after memcpy(), once they are told of it.
void stream_copy(std::byte* to, const std::byte* from, size_t count);

}  // namespace tessera
