#include "tessera/comm/comm.h"

#include "tessera/comm/list.h"

namespace tessera {

std::vector<Bytes> all_gather(Comm& comm, std::string_view purpose, Bytes mine) {
  return decode_list(comm.round(purpose, std::move(mine), answer_with_all));
}

Bytes broadcast(Comm& comm, std::string_view purpose, Bytes from_leader) {
  if (comm.rank() != 0) from_leader.clear();
  return comm.round(purpose, std::move(from_leader), [](std::vector<Bytes> all) { return std::vector<Bytes>(all.size(), all.front()); });
}

void barrier(Comm& comm, std::string_view purpose) {
  comm.round(purpose, {}, [](std::vector<Bytes> all) { return std::vector<Bytes>(all.size()); });
}

}  // namespace tessera
