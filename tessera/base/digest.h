// tessera/base/digest.h: the two checksums of the house. CRC-32 is what zip archives carry (ISO-HDLC, as in zlib);
// XXH3-128 tells our own bytes apart. Neither resists an attacker.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace tessera {

// Continues from `crc` (0 at the start), so that a large piece can be taken in parts.
uint32_t crc32(std::span<const std::byte> bytes, uint32_t crc = 0);
// That of two pieces one after the other, from each one's own and the second's length: so that they can be taken at once.
uint32_t joined_crc32(uint32_t first, uint32_t second, int64_t second_bytes);

using Digest = std::array<std::byte, 16>;
Digest digest(std::span<const std::byte> bytes);

// The same digest of bytes that come in parts.
class DigestStream {
 public:
  DigestStream();
  ~DigestStream();
  DigestStream(const DigestStream&) = delete;
  DigestStream& operator=(const DigestStream&) = delete;
  void add(std::span<const std::byte> bytes);
  Digest result() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// 128 random bits in 32 hexadecimal digits: names a save.
std::string random_id();

}  // namespace tessera
