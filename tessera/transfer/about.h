// tessera/transfer/about.h: the message of a parser that knows bytes, told as one about a key.
#pragma once

#include <string>

#include "tessera/base/error.h"

namespace tessera {

template <class Work>
auto about(const std::string& key, Work work) {
  try {
    return work();
  } catch (const Error& error) {
    Fault fault = error.fault();
    fault.what = "'" + key + "': " + fault.what;
    throw Error(std::move(fault));
  }
}

}  // namespace tessera
