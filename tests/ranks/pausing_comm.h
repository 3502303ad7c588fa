// tests/ranks/pausing_comm.h: a Comm that tells where its rank is, and stops there when asked, so that a test can strike at exactly this
// step. Points      "note.WORD" the first time that a note begins with WORD; "PURPOSE.before" and "PURPOSE.after" around a round, "#2" and
// so on
//             added to a purpose that comes again; on the leader also "PURPOSE.lead" when all messages are here, and "PURPOSE.led" when it
//             has done what is to be done and nobody knows yet.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>

#include "tessera/comm/comm.h"

namespace tessera {

class PausingComm final : public Comm {
 public:
  PausingComm(Comm& comm, std::function<void(const std::string&)> at) : comm_(comm), at_(std::move(at)) {}

  int rank() const override { return comm_.rank(); }
  int size() const override { return comm_.size(); }
  Bytes round(std::string_view purpose, Bytes mine, const Combine& combine) override {
    const std::string name = named(purpose);
    at_(name + ".before");
    const auto answer = comm_.round(purpose, std::move(mine), [&](std::vector<Bytes> all) {
      at_(name + ".lead");
      auto answers = combine(std::move(all));
      at_(name + ".led");
      return answers;
    });
    at_(name + ".after");
    return answer;
  }
  void note(std::string_view doing, int64_t done_bytes, int64_t total_bytes) override {
    comm_.note(doing, done_bytes, total_bytes);
    const std::string word(doing.substr(0, doing.find(' ')));
    if (noted_.insert(word).second) at_("note." + word);
  }
  void abort(const Fault& fault) override { comm_.abort(fault); }
  std::optional<Fault> failure() override { return comm_.failure(); }
  std::unique_ptr<Comm> line() override { return comm_.line(); }

 private:
  std::string named(std::string_view purpose) {
    const int times = ++rounds_[std::string(purpose)];
    return std::string(purpose) + (times > 1 ? "#" + std::to_string(times) : "");
  }

  Comm& comm_;
  const std::function<void(const std::string&)> at_;
  std::map<std::string, int> rounds_;
  std::set<std::string> noted_;
};

}  // namespace tessera
