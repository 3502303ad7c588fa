// tests/support/counting_comm.h: a Comm that counts what one rank hands in and is answered, by the purpose of the round.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "tessera/comm/comm.h"

namespace tessera {

class CountingComm final : public Comm {
 public:
  struct Count {
    int64_t rounds = 0, sent_bytes = 0, answered_bytes = 0;
  };
  explicit CountingComm(Comm& comm) : comm_(comm) {}
  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    Count& count = counts[std::string(purpose)];
    ++count.rounds;
    count.sent_bytes += static_cast<int64_t>(mine.size());
    Bytes answer = comm_.round(purpose, std::move(mine), combine);
    count.answered_bytes += static_cast<int64_t>(answer.size());
    return answer;
  }
  using Comm::note;
  void note(std::string_view doing, int64_t done_bytes, int64_t total_bytes) override { comm_.note(doing, done_bytes, total_bytes); }
  void abort(const Fault& fault) override { comm_.abort(fault); }
  std::optional<Fault> failure() override { return comm_.failure(); }
  std::unique_ptr<Comm> line() override { return comm_.line(); }  // counts nothing

  std::map<std::string, Count> counts;

 private:
  Comm& comm_;
};

}  // namespace tessera
