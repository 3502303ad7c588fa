// fuzz/properties.h: what the targets share. A property that does not hold ends the process, as a sanitizer's report does.
// So does every exception that is no tessera::Error: nothing catches it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <span>

#include "tessera/base/byte_source.h"
#include "tessera/base/bytes.h"
#include "tessera/base/error.h"

namespace tessera::fuzz {

inline void require(bool holds, const char* property) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: not so: %s\n", property);
  std::abort();
}

inline std::span<const std::byte> bytes_of(const uint8_t* data, size_t size) { return std::as_bytes(std::span(data, size)); }

// Runs `work`: true if it went well, false if it refused in one of these ways, which must be told in words.
template <class Work>
bool accepted(Work work, std::initializer_list<Code> refusals = {Code::corrupt, Code::unsupported, Code::limit}) {
  try {
    work();
    return true;
  } catch (const Error& error) {
    bool allowed = false;
    for (const Code code : refusals) allowed = allowed || error.code() == code;
    if (!allowed) std::fprintf(stderr, "fuzz: refused as %s: %s\n", name(error.code()), describe(error.fault()).c_str());
    require(allowed, "a refusal has one of the codes that the header promises");
    require(!error.fault().what.empty(), "a refusal says what is wrong");
    require(error.fault().offset_bytes >= -1, "a refusal's place is one");
    return false;
  }
}

}  // namespace tessera::fuzz
