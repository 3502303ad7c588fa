// cli/sha256.h: SHA-256 taken in parts, for `--digest`: people compare it with what other tools print.
#pragma once

#include <memory>
#include <span>
#include <string>

struct evp_md_ctx_st;

namespace tessera::cli {

class Sha256 {
 public:
  Sha256();
  void add(std::span<const std::byte> bytes);
  // 64 hexadecimal digits of all that was added; nothing may be added afterwards.
  std::string finish();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace tessera::cli
