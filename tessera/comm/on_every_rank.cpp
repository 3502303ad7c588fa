#include "tessera/comm/on_every_rank.h"

#include <algorithm>

#include "tessera/comm/list.h"

namespace tessera {
namespace {

constexpr int leader = 0;

Bytes encode_outcome(const Outcome<Bytes>& outcome) {
  ByteWriter out;
  out.put(outcome.value.has_value());
  out.put_raw(outcome ? *outcome.value : encode(outcome.fault));
  return out.take();
}

Outcome<Bytes> decode_outcome(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  if (in.get<bool>()) {
    const auto rest = in.get_raw(in.left());
    return {Bytes(rest.begin(), rest.end())};
  }
  return {std::nullopt, decode_fault(in.get_raw(in.left()))};
}

// On the leader: what `lead` makes of the ranks' bytes, or the root cause of their failures.
std::vector<Bytes> answer_all(std::vector<Bytes> messages, Phase phase, const Combine& lead) {
  const size_t ranks = messages.size();
  std::vector<Bytes> good;
  std::vector<std::pair<int, Fault>> faults;
  for (size_t r = 0; r < ranks; ++r) {
    auto decoded = capture([&] { return decode_outcome(messages[r]); });
    Outcome<Bytes> outcome = decoded ? std::move(*decoded.value) : Outcome<Bytes>{std::nullopt, std::move(decoded.fault)};
    if (outcome) good.push_back(std::move(*outcome.value));
    else faults.emplace_back(static_cast<int>(r), std::move(outcome.fault));
  }
  if (faults.empty()) {
    Outcome<std::vector<Bytes>> led = capture([&] { return lead(std::move(good)); });
    if (led) {
      for (Bytes& answer : *led.value) answer = encode_outcome({std::move(answer)});
      return std::move(*led.value);
    }
    faults.emplace_back(leader, std::move(led.fault));
  }
  return std::vector<Bytes>(ranks, encode_outcome({std::nullopt, root_cause(faults, phase)}));
}

Bytes agree(Comm& comm, Phase phase, const std::function<Bytes()>& mine, const Combine& lead) {
  const Outcome<Bytes> outcome = capture(mine);
  const Bytes answer =
      comm.round(name(phase), encode_outcome(outcome), [&](std::vector<Bytes> all) { return answer_all(std::move(all), phase, lead); });
  return decode_outcome(answer).or_throw();
}

bool says_only_that_others_failed(const Fault& fault) {
  return fault.code == Code::aborted || fault.code == Code::peer_lost || fault.code == Code::timeout;
}

}  // namespace

Bytes encode(const Fault& fault) {
  ByteWriter out;
  out.put(fault.code);
  out.put(fault.offset_bytes);
  out.put<int32_t>(fault.os_errno);
  out.put<int32_t>(fault.rank);
  out.put(fault.phase);
  out.put<int32_t>(fault.same_on);
  out.put_string(fault.what);
  out.put_string(fault.file);
  out.put_string(fault.hint);
  return out.take();
}

Fault decode_fault(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Fault fault;
  fault.code = in.get<Code>();
  fault.offset_bytes = in.get<int64_t>();
  fault.os_errno = in.get<int32_t>();
  fault.rank = in.get<int32_t>();
  fault.phase = in.get<Phase>();
  fault.same_on = in.get<int32_t>();
  fault.what = in.get_string();
  fault.file = in.get_string();
  fault.hint = in.get_string();
  // Those that no build of ours knows have no name.
  if (name(fault.code) == std::string_view("unknown") || name(fault.phase) == std::string_view("unknown"))
    throw Error({.code = Code::corrupt, .what = "a message holds a fault of an unknown kind"});
  return fault;
}

Fault root_cause(const std::vector<std::pair<int, Fault>>& faults, Phase phase) {
  const auto first = std::ranges::min_element(
      faults, {}, [](const auto& failed) { return std::pair(says_only_that_others_failed(failed.second), failed.first); });
  Fault cause = first->second;
  if (cause.phase == Phase::none) cause.phase = phase;
  if (cause.rank >= 0) return cause;  // all ranks agreed on it before
  cause.same_on = static_cast<int>(std::ranges::count_if(faults,
                                                         [&](const auto& failed) {
                                                           return failed.second.code == cause.code && failed.second.what == cause.what &&
                                                                  failed.second.os_errno == cause.os_errno;
                                                         })) -
                  1;
  cause.rank = first->first;
  return cause;
}

Bytes through_leader(Comm& comm, Phase phase, const std::function<Bytes()>& mine, const Combine& lead) {
  return agree(comm, phase, mine, lead);
}

std::vector<Bytes> on_every_rank_bytes(Comm& comm, Phase phase, const std::function<Bytes()>& work) {
  return decode_list(agree(comm, phase, work, answer_with_all));
}

void on_every_rank(Comm& comm, Phase phase, const std::function<void()>& work) {
  agree(
      comm, phase,
      [&] {
        work();
        return Bytes{};
      },
      [](std::vector<Bytes> all) { return std::vector<Bytes>(all.size()); });
}

Bytes on_leader(Comm& comm, Phase phase, const std::function<Bytes()>& work) {
  return agree(comm, phase, [] { return Bytes{}; }, [&](std::vector<Bytes> all) { return std::vector<Bytes>(all.size(), work()); });
}

}  // namespace tessera
