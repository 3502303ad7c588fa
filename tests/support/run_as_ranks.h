// tests/support/run_as_ranks.h: a test's body as every rank of a job at once, each in its own thread.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tessera/comm/comm.h"

namespace tessera {

using Comms = std::vector<std::unique_ptr<Comm>>;

// Runs `body` as every rank, each in its own thread, and returns what came of each.
template <class Body>
auto run_as_ranks(Comms& comms, Body body) {
  using T = typename decltype(capture([&] { return body(*comms.front()); }).value)::value_type;
  std::vector<Outcome<T>> outcomes(comms.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < comms.size(); ++r) threads.emplace_back([&, r] { outcomes[r] = capture([&] { return body(*comms[r]); }); });
  for (std::thread& thread : threads) thread.join();
  return outcomes;
}

inline Bytes bytes_from(std::string_view text) {
  const auto bytes = as_bytes(text);
  return {bytes.begin(), bytes.end()};
}
inline std::vector<std::string> texts_of(const std::vector<Bytes>& all) {
  std::vector<std::string> texts;
  for (const Bytes& bytes : all) texts.emplace_back(as_text(bytes));
  return texts;
}

}  // namespace tessera
