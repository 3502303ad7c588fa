// tessera/base/human_bytes.h: an amount of bytes for people.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

// "1.5 GiB"; exact below 1 KiB: "400 B".
std::string human_bytes(int64_t bytes);

}  // namespace tessera
