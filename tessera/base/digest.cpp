#include "tessera/base/digest.h"

#include <isa-l/crc.h>
#include <xxhash.h>
#include <zlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#include <xxh_x86dispatch.h>  // the same hash, by the widest vectors that this processor has
#endif

#include <cstring>
#include <new>
#include <random>

namespace tessera {

namespace {

// Code for the widest vectors leaves the upper halves of their registers in use. Until somebody clears them, each ordinary floating-point
// or 16-byte instruction of this thread waits for what stands there: whatever ran after a digest took up to twice its time.
#if defined(__x86_64__)
__attribute__((target("avx"))) void clear_upper_halves_by_avx() { _mm256_zeroupper(); }
void clear_upper_halves() {
  static const bool has_avx = __builtin_cpu_supports("avx");
  if (has_avx) clear_upper_halves_by_avx();
}
#else
void clear_upper_halves() {}
#endif

// Runs `work`, which may use them.
template <class Work>
auto with_wide_vectors(Work work) {
  const auto result = work();
  clear_upper_halves();
  return result;
}

}  // namespace

uint32_t crc32(std::span<const std::byte> bytes, uint32_t crc) {
  return with_wide_vectors([&] { return crc32_gzip_refl(crc, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()); });
}

uint32_t joined_crc32(uint32_t first, uint32_t second, int64_t second_bytes) {
  return static_cast<uint32_t>(crc32_combine64(first, second, second_bytes));
}

namespace {

Digest canonical_form(XXH128_hash_t hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  Digest result;
  std::memcpy(result.data(), canonical.digest, result.size());
  return result;
}

}  // namespace

Digest digest(std::span<const std::byte> bytes) {
  return canonical_form(with_wide_vectors([&] { return XXH3_128bits(bytes.data(), bytes.size()); }));
}

struct DigestStream::State {
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  std::unique_ptr<XXH3_state_t, Free> xxh3{XXH3_createState()};
};

DigestStream::DigestStream() : state_(std::make_unique<State>()) {
  if (!state_->xxh3) throw std::bad_alloc();
  XXH3_128bits_reset(state_->xxh3.get());
}
DigestStream::~DigestStream() = default;

void DigestStream::add(std::span<const std::byte> bytes) {
  with_wide_vectors([&] { return XXH3_128bits_update(state_->xxh3.get(), bytes.data(), bytes.size()); });
}
Digest DigestStream::result() const {
  return canonical_form(with_wide_vectors([&] { return XXH3_128bits_digest(state_->xxh3.get()); }));
}

std::string random_id() {
  std::random_device device;
  std::string id;
  for (int i = 0; i < 32; ++i) id += "0123456789abcdef"[device() % 16];
  return id;
}

}  // namespace tessera
