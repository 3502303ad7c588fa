#include "tessera/comm/round_table.h"

#include <algorithm>
#include <cassert>

namespace tessera {
namespace {

constexpr int leader = 0;
constexpr size_t most_named = 8;  // of a thousand missing ranks, a message names the first

std::string in_words(Deadline::Clock::duration time) {
  const auto ms = std::chrono::duration_cast<Milliseconds>(time).count();
  return ms < 10'000 ? std::to_string(ms) + " ms" : std::to_string(ms / 1000) + " s";
}

}  // namespace

RoundTable::RoundTable(int ranks, Milliseconds deadline) : ranks_(static_cast<size_t>(ranks)), deadline_(deadline) {}

void RoundTable::arrive(int rank, std::string_view purpose, Bytes message, Time now) {
  if (broken_) return;
  if (at(rank).here) {
    return break_with(
        {.code = Code::internal,
         .what = "rank " + std::to_string(rank) + " began '" + std::string(purpose) + "' before '" + purpose_ + "' was answered"});
  }
  if (arrived_ == 0) {
    purpose_ = purpose;
    waiting_since_ = now;
  } else if (purpose_ != purpose) {
    const auto other = std::ranges::find_if(ranks_, &Rank::here) - ranks_.begin();
    return break_with({.code = Code::internal,
                       .what = "ranks took different ways: round " + std::to_string(number_) + " is '" + purpose_ + "' on rank " +
                               std::to_string(other) + " and '" + std::string(purpose) + "' on rank " + std::to_string(rank)});
  }
  at(rank).message = std::move(message);
  at(rank).here = true;
  at(rank).progress = now;
  if (++arrived_ == ranks_.size()) waiting_since_ = now;  // from now on, for the leader
  break_if_one_left();
}

std::vector<Bytes> RoundTable::take_messages() {
  assert(complete());
  std::vector<Bytes> messages;
  for (Rank& rank : ranks_) {
    messages.push_back(std::move(*rank.message));
    rank.message.reset();
  }
  return messages;
}

void RoundTable::answered() {
  for (Rank& rank : ranks_) rank.here = false;
  arrived_ = 0;
  ++number_;
}

void RoundTable::note(int rank, std::string_view doing, int64_t done_bytes, int64_t total_bytes, Time now) {
  at(rank).activity.note(doing, done_bytes, total_bytes, now);
  progress(rank, now);
}

void RoundTable::progress(int rank, Time now) { at(rank).progress = now; }

void RoundTable::hear(int rank, Time now) { at(rank).heard = now; }

void RoundTable::leave(int rank) {
  at(rank).left = true;
  break_if_one_left();
}

bool RoundTable::all_left() const { return std::ranges::all_of(ranks_, &Rank::left); }

void RoundTable::lose(int rank, std::string_view how) {
  break_with({.code = Code::peer_lost,
              .what = "rank " + std::to_string(rank) + " is gone: " + std::string(how) + "; last seen at: " + doing(rank)});
}

void RoundTable::break_with(const Fault& fault) {
  if (!broken_) broken_ = fault;
}

std::optional<RoundTable::Time> RoundTable::check(Time now) {
  if (broken_ || arrived_ == 0) return std::nullopt;
  const std::vector<int> missed = missing();
  auto first = Time::max();
  for (const int rank : missed) first = std::min(first, late_at(rank));
  if (now < first) return first;
  break_with({.code = Code::timeout,
              .what = "no progress for " + std::to_string(deadline_.count()) + " ms while waiting for '" + purpose_ +
                      "': " + with_doings(missed, now)});
  return std::nullopt;
}

std::vector<int> RoundTable::missing() const {
  if (complete()) return {leader};
  std::vector<int> missed;
  for (int rank = 0; rank < static_cast<int>(ranks_.size()); ++rank) {
    if (!at(rank).here) missed.push_back(rank);
  }
  return missed;
}

void RoundTable::break_if_one_left() {
  if (arrived_ == 0) return;
  for (const int rank : missing()) {
    if (at(rank).left) return lose(rank, "it left while others wait for '" + purpose_ + "'");
  }
}

// Those that are late come first: they are the cause.
std::string RoundTable::with_doings(std::vector<int> ranks, Time now) const {
  std::ranges::stable_partition(ranks, [&](int rank) { return late_at(rank) <= now; });
  std::string text;
  for (size_t i = 0; i < std::min(ranks.size(), most_named); ++i) text += (i == 0 ? "" : "; ") + with_doing(ranks[i], now);
  if (ranks.size() > most_named) text += "; and " + std::to_string(ranks.size() - most_named) + " more ranks";
  return text;
}

std::string RoundTable::with_doing(int rank, Time now) const {
  const Rank& missed = at(rank);
  std::string text = "rank " + std::to_string(rank) + " was last seen at: " + doing(rank);
  if (missed.progress != Time::min()) text += ", " + in_words(now - missed.progress) + " ago";
  if (now < late_at(rank)) return text + " (slow)";
  if (missed.heard == Time::min()) return text;
  const auto silent = now - missed.heard;
  return text + (silent < deadline_ / 2 ? " (alive, but stuck)" : " (silent for " + in_words(silent) + ")");
}

}  // namespace tessera
