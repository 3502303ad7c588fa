#include "cli/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "cli/value_json.h"
#include "tessera/base/error.h"

namespace tessera::cli {
namespace {

void check(int ok) {
  if (ok != 1) throw Error({.code = Code::internal, .what = "SHA-256 failed in OpenSSL"});
}

}  // namespace

void Sha256::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (!context_) throw std::bad_alloc();
  check(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

void Sha256::add(std::span<const std::byte> bytes) { check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size())); }

std::string Sha256::finish() {
  std::array<std::byte, 32> digest;
  check(EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr));
  return hex(digest);
}

}  // namespace tessera::cli
