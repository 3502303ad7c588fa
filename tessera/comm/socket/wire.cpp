#include "tessera/comm/socket/wire.h"

#include <algorithm>

namespace tessera {
namespace {

constexpr size_t longest_text_bytes = 4096;

}  // namespace

std::string_view at_most(std::string_view text, size_t most_bytes) { return text.substr(0, std::min(text.size(), most_bytes)); }

Bytes encode(const Message& message) {
  ByteWriter out;
  out.put(message.kind);
  out.put(message.line);
  out.put(message.first);
  out.put(message.second);
  out.put_string(at_most(message.text, longest_text_bytes));
  out.put_raw(message.bytes);
  return out.take();
}

Message decode_message(std::span<const std::byte> frame) {
  ByteReader in(frame);
  Message message;
  message.kind = in.get<Kind>();
  if (message.kind > Kind::bye) throw Error({.code = Code::corrupt, .what = "a message of an unknown kind"});
  message.line = in.get<uint32_t>();
  message.first = in.get<uint64_t>();
  message.second = in.get<uint64_t>();
  message.text = in.get_string();
  const auto rest = in.get_raw(in.left());
  message.bytes.assign(rest.begin(), rest.end());
  return message;
}

std::vector<Bytes> encode_parts(uint32_t line, std::string_view purpose, const Bytes& message) {
  std::vector<Bytes> frames;
  size_t offset = 0;
  do {
    const size_t count = std::min(message.size() - offset, static_cast<size_t>(part_bytes));
    const auto begin = message.begin() + static_cast<std::ptrdiff_t>(offset);
    frames.push_back(encode({.kind = Kind::part,
                             .line = line,
                             .first = message.size(),
                             .second = offset,
                             .text = std::string(purpose),
                             .bytes = Bytes(begin, begin + static_cast<std::ptrdiff_t>(count))}));
    offset += count;
  } while (offset < message.size());
  return frames;
}

std::optional<Bytes> Assembly::add(Message part, int64_t limit_bytes) {
  if (part.first > static_cast<uint64_t>(limit_bytes)) throw Error({.code = Code::corrupt, .what = "a message above the limit"});
  const bool fits = part.second == whole_.size() && part.second <= part.first && part.bytes.size() <= part.first - part.second;
  if (!fits || (part.bytes.empty() && part.first != 0)) {
    throw Error({.code = Code::corrupt, .what = "parts of a message that do not fit together"});
  }
  if (whole_.empty()) whole_ = std::move(part.bytes);
  else whole_.insert(whole_.end(), part.bytes.begin(), part.bytes.end());
  if (whole_.size() < part.first) return std::nullopt;
  return std::exchange(whole_, {});
}

}  // namespace tessera
