#include "tessera/comm/socket/wake.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "tessera/base/error.h"

namespace tessera {

Wake::Wake() : descriptor_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (descriptor_ < 0) throw Error(os_fault(errno, "make an event descriptor"));
}

Wake::~Wake() { close(descriptor_); }

// Neither can fail but by a full or an empty counter, and both of these are fine.
void Wake::ring() const { eventfd_write(descriptor_, 1); }

void Wake::hush() const {
  eventfd_t rings = 0;
  eventfd_read(descriptor_, &rings);
}

}  // namespace tessera
