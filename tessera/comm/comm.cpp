#include "tessera/comm/comm.h"

namespace tessera {

std::vector<Bytes> all_gather(Comm& comm, std::string_view purpose, Bytes mine) {
  const Bytes answer = comm.round(purpose, std::move(mine), [](std::vector<Bytes> all) {
    ByteWriter out;
    for (const Bytes& bytes : all) out.put_bytes(bytes);
    return std::vector<Bytes>(all.size(), out.take());
  });
  ByteReader in(answer);
  std::vector<Bytes> all;
  while (!in.empty()) {
    const auto bytes = in.get_bytes();
    all.emplace_back(bytes.begin(), bytes.end());
  }
  return all;
}

Bytes broadcast(Comm& comm, std::string_view purpose, Bytes from_leader) {
  if (comm.rank() != 0) from_leader.clear();
  return comm.round(purpose, std::move(from_leader), [](std::vector<Bytes> all) { return std::vector<Bytes>(all.size(), all.front()); });
}

void barrier(Comm& comm, std::string_view purpose) {
  comm.round(purpose, {}, [](std::vector<Bytes> all) { return std::vector<Bytes>(all.size()); });
}

}  // namespace tessera
