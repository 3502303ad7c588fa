// tessera/collectives/shared_region.h: memory that processes of one host share, and that is gone with the last of them.
// No names    It is a memfd, handed over by SCM_RIGHTS through a Unix socket of the abstract namespace, so that nothing is left behind
//             however the processes end. The socket lives while they meet.
// Who gets in Who knows the secret that the ranks told each other over their own, authenticated channel, and is the same user.
// Size        Sealed: nobody can shrink it below another's feet.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tessera/base/bytes.h"
#include "tessera/base/deadline.h"

namespace tessera {

// Mapped for reading and writing, and zero at first.
class SharedRegion {
 public:
  SharedRegion() = default;
  SharedRegion(int descriptor, size_t size_bytes);  // keeps no descriptor
  SharedRegion(SharedRegion&& other) noexcept;
  SharedRegion& operator=(SharedRegion&& other) noexcept;
  ~SharedRegion();
  std::byte* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Everyone's bytes on every rank of some, in rank order; the same number of bytes from each.
using TellAll = std::function<std::vector<Bytes>(Bytes)>;

// One of `groups` of ranks that meet at once: every rank of them all calls it with its own group's `leader`, by its place among those that
// `tell_all` joins. The leader makes the region.
// Errors      Error that says which rank could not, and why; alike on all ranks of all groups.
SharedRegion meet_in_memory(int rank, int leader, size_t size_bytes, const TellAll& tell_all);

// What two processes have in common exactly if they can meet like this: the kernel's boot, the network namespace and the user.
std::string meeting_ground();

}  // namespace tessera
