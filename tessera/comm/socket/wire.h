// tessera/comm/socket/wire.h: what the sockets of a job say to each other: one frame a message, both ways.
// Large messages go in parts, so that a stranger's frame is never worth much memory and beats come through in between.
// Errors      decode() and Assembly throw Error(corrupt) for what none of us would send.
#pragma once

#include <optional>
#include <string>

#include "tessera/base/bytes.h"

namespace tessera {

inline constexpr int64_t part_bytes = 1 << 20;
inline constexpr int64_t frame_limit_bytes = part_bytes + (64 << 10);  // a part, its head, and what CURVE adds

enum class Kind : uint8_t {
  hello,    // follower: first = its rank, second = the size it was told, text = the protocol
  welcome,  // leader: you are in
  part,     // a piece of a round's message, or of its answer: first = length of the whole, second = offset, text = purpose
  refusal,  // leader: the answer of a round whose Combine threw: bytes = the fault
  beat,     // text = what the sender is doing, first = how often a follower has made progress on the line, bytes = how far it is
  abort,    // the job is broken, or the line alone where it is not 0: bytes = the fault
  open,     // follower: it opened its next line
  close,    // follower: it closed the line
  bye,      // the Comm is closing, with all lines
};

struct Message {
  Kind kind = Kind::beat;
  uint32_t line = 0;
  uint64_t first = 0;
  uint64_t second = 0;
  std::string text = {};
  Bytes bytes = {};
};

Bytes encode(const Message& message);
Message decode_message(std::span<const std::byte> frame);

// The frames that carry `message`.
std::vector<Bytes> encode_parts(uint32_t line, std::string_view purpose, const Bytes& message);

// Puts the parts of one message together again.
class Assembly {
 public:
  // The whole message, once `part` was its last.
  std::optional<Bytes> add(Message part, int64_t limit_bytes);

 private:
  Bytes whole_;
};

// Shortens what goes into a frame's head.
std::string_view at_most(std::string_view text, size_t most_bytes);

}  // namespace tessera
