// examples/names/names.h: the names of Unicode's characters, and the general category of each: "LATIN SMALL LETTER A" is an "Ll".
// The data come with Debian's perl, which build-essential brings.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

struct Names {
  at::Tensor letters;  // [names, width] of int64: 0 is no letter
  at::Tensor kinds;    // [names] of int64, an index of kind_names
};

struct NameData {
  static constexpr int64_t width = 40;    // longer names are cut
  static constexpr int64_t alphabet = 40;
  std::vector<std::string> kind_names;  // "Ll"
  Names train, test;                    // every tenth name is for tests
};

// `most` names, evenly from all; 0: all. Throws Error(not_found) where there is no such data.
NameData read_names(int64_t most);
