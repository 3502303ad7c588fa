#include "tessera/comm/lines.h"

#include <algorithm>

namespace tessera {

Fault too_many_lines(int rank) {
  return {.code = Code::limit,
          .what = "rank " + std::to_string(rank) + " opens a line while " + std::to_string(most_lines) + " are open already"};
}

Lines::Lines(int ranks, Milliseconds deadline) : ranks_(ranks), deadline_(deadline), next_(static_cast<size_t>(ranks), 1) {
  tables_.emplace(0, RoundTable(ranks, deadline));
}

Lines::Number Lines::open(int rank) {
  const Number line = next_[static_cast<size_t>(rank)];
  if (!tables_.contains(line)) {
    if (tables_.size() >= most_lines) throw Error(too_many_lines(rank));
    const auto [added, _] = tables_.emplace(line, RoundTable(ranks_, deadline_));
    if (broken_) added->second.break_with(*broken_);
  }
  ++next_[static_cast<size_t>(rank)];
  return line;
}

void Lines::leave(int rank, Number line) {
  if (!has_open(rank, line)) return;
  RoundTable& table = tables_.at(line);
  table.leave(rank);
  if (line == 0 && table.broken()) break_with(*table.broken());
  if (table.all_left()) tables_.erase(line);
}

void Lines::leave(int rank) {
  std::vector<Number> all;
  for (const auto& [line, _] : tables_) all.push_back(line);
  for (const Number line : all) leave(rank, line);
}

RoundTable& Lines::at(int rank, Number line) {
  if (has_open(rank, line)) return tables_.at(line);
  throw Error({.code = Code::corrupt, .what = "a message on line " + std::to_string(line) + ", which it has not open"});
}

void Lines::hear(int rank, Time now) {
  for (auto& [_, table] : tables_) table.hear(rank, now);
}

void Lines::arrive(int rank, Number line, std::string_view purpose, Bytes message, Time now) {
  RoundTable& table = at(rank, line);
  table.arrive(rank, purpose, std::move(message), now);
  if (line == 0 && table.broken()) break_with(*table.broken());
}

void Lines::lose(int rank, std::string_view how) {
  break_with({.code = Code::peer_lost,
              .what = "rank " + std::to_string(rank) + " is gone: " + std::string(how) + "; last seen at: " + doing(rank)});
}

void Lines::break_with(const Fault& fault) {
  if (broken_) return;
  broken_ = fault;
  for (auto& [_, table] : tables_) table.break_with(fault);
}

std::vector<std::pair<Lines::Number, Fault>> Lines::broken_lines() const {
  std::vector<std::pair<Number, Fault>> broken;
  for (const auto& [line, table] : tables_) {
    if (table.broken()) broken.emplace_back(line, *table.broken());
  }
  return broken;
}

std::optional<Lines::Time> Lines::check(Time now) {
  std::optional<Time> first;
  for (auto& [_, table] : tables_) {
    if (table.broken()) continue;
    const auto due = table.check(now);
    if (table.broken()) {
      break_with(*table.broken());
      return std::nullopt;
    }
    if (due) first = std::min(first.value_or(*due), *due);
  }
  return first;
}

std::string Lines::doing(int rank) const {
  std::string text;
  for (const auto& [line, table] : tables_) {
    if (!has_open(rank, line)) continue;
    if (!text.empty()) text += "; on line " + std::to_string(line) + ": ";
    text += table.doing(rank);
  }
  return text;
}

bool Lines::has_open(int rank, Number line) const {
  const auto table = tables_.find(line);
  return table != tables_.end() && line < next_[static_cast<size_t>(rank)] && !table->second.has_left(rank);
}

}  // namespace tessera
