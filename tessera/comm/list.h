// tessera/comm/list.h: every rank's message as one message.
#pragma once

#include <vector>

#include "tessera/base/bytes.h"

namespace tessera {

inline Bytes encode_list(const std::vector<Bytes>& messages) {
  ByteWriter out;
  for (const Bytes& message : messages) out.put_bytes(message);
  return out.take();
}

inline std::vector<Bytes> decode_list(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  std::vector<Bytes> messages;
  while (!in.empty()) {
    const auto message = in.get_bytes();
    messages.emplace_back(message.begin(), message.end());
  }
  return messages;
}

// The same answer for every rank: all messages.
inline std::vector<Bytes> answer_with_all(const std::vector<Bytes>& messages) {
  return std::vector<Bytes>(messages.size(), encode_list(messages));
}

}  // namespace tessera
