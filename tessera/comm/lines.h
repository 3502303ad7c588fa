// tessera/comm/lines.h: the leader's side of a Comm with all its lines: one RoundTable each. A value, as RoundTable is.
// Invariants  I1 A rank opens lines 0, 1, 2, … in this order. A line is here from the first rank that opens it to the last that leaves it.
//             I2 No more than `most_lines` are here at once, whatever a rank asks for.
//             I3 What befalls a rank (lost, late) or the job (abort), and any fault of line 0, breaks every line, those to come included.
//                Where ranks only disagree about a line, or one closes it too early, that line alone breaks.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tessera/comm/round_table.h"

namespace tessera {

inline constexpr size_t most_lines = 64;
Fault too_many_lines(int rank);

class Lines {
 public:
  using Time = RoundTable::Time;
  using Number = uint32_t;

  // Line 0 is there for every rank.
  Lines(int ranks, Milliseconds deadline);

  // The rank's next line; its number. Error(limit) where too many are here.
  Number open(int rank);
  // The rank closed its line, or all of them.
  void leave(int rank, Number line);
  void leave(int rank);
  // A line that the rank has open; Error(corrupt) for any other number.
  RoundTable& at(int rank, Number line);
  bool has(Number line) const { return tables_.contains(line); }

  // A sign of life, without progress.
  void hear(int rank, Time now);
  void arrive(int rank, Number line, std::string_view purpose, Bytes message, Time now);
  // The rank is gone without a word. `how` is a clause: "its connection closed".
  void lose(int rank, std::string_view how);
  void break_with(const Fault& fault);
  // What broke all lines.
  const std::optional<Fault>& broken() const { return broken_; }
  // What broke each line that is here and broken.
  std::vector<std::pair<Number, Fault>> broken_lines() const;
  // As RoundTable's, of all lines.
  std::optional<Time> check(Time now);

  // What the rank is doing, on all its lines.
  std::string doing(int rank) const;

 private:
  bool has_open(int rank, Number line) const;

  int ranks_;
  Milliseconds deadline_;
  std::vector<Number> next_;  // by rank
  std::map<Number, RoundTable> tables_;
  std::optional<Fault> broken_;
};

}  // namespace tessera
