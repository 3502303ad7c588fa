#include "tessera/base/digest.h"

#include <isa-l/crc.h>
#include <xxhash.h>
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>  // the same hash, by the widest vectors that this processor has
#endif

#include <cstring>
#include <random>

namespace tessera {

uint32_t crc32(std::span<const std::byte> bytes, uint32_t crc) {
  return crc32_gzip_refl(crc, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

Digest digest(std::span<const std::byte> bytes) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.data(), bytes.size()));
  Digest result;
  std::memcpy(result.data(), canonical.digest, result.size());
  return result;
}

std::string random_id() {
  std::random_device device;
  std::string id;
  for (int i = 0; i < 32; ++i) id += "0123456789abcdef"[device() % 16];
  return id;
}

}  // namespace tessera
