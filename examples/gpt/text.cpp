#include "examples/gpt/text.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tessera/base/bytes.h"
#include "tessera/base/digest.h"
#include "tessera/base/error.h"

using tessera::Code;
using tessera::Error;

namespace {

constexpr const char* licences = "/usr/share/common-licenses";

std::string content(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream all;
  all << in.rdbuf();
  if (!in) throw Error(tessera::os_fault(errno ? errno : EIO, "read the text", file.string()));
  return all.str();
}

std::string all_licences() {
  std::vector<std::filesystem::path> files;
  std::error_code failure;
  for (const auto& entry : std::filesystem::directory_iterator(licences, failure)) {
    if (entry.is_regular_file() && !entry.is_symlink()) files.push_back(entry.path());
  }
  if (files.empty())
    throw Error(
        {.code = Code::not_found, .what = "no licence texts", .file = licences, .hint = "give a text of your own with --text FILE"});
  std::ranges::sort(files);
  std::string all;
  for (const auto& file : files) all += content(file);
  return all;
}

}  // namespace

Text::Text(const std::string& file, uint64_t seed, int64_t seq)
    : bytes_(file.empty() ? all_licences() : content(file)), seed_(seed), seq_(seq) {
  if (static_cast<int64_t>(bytes_.size()) <= seq + 1)
    throw Error({.code = Code::invalid_argument, .what = "the text is shorter than one sample", .file = file});
}

at::Tensor Text::samples(int64_t first, int64_t last) const {
  at::Tensor out = at::empty({last - first, seq_ + 1}, at::kLong);
  auto* into = out.mutable_data_ptr<int64_t>();
  for (int64_t i = first; i < last; ++i) {
    tessera::ByteWriter name;
    name.put(seed_);
    name.put(taken_ + i);
    uint64_t random;
    const tessera::Digest hash = tessera::digest(name.take());
    std::memcpy(&random, hash.data(), sizeof random);
    const size_t begin = random % (bytes_.size() - static_cast<size_t>(seq_) - 1);
    for (int64_t t = 0; t <= seq_; ++t) *into++ = static_cast<uint8_t>(bytes_[begin + static_cast<size_t>(t)]);
  }
  return out;
}

tessera::StateDict Text::state_dict() const {
  tessera::StateDict state;
  state.add("taken", tessera::Value(taken_));
  state.add("seed", tessera::Value(static_cast<int64_t>(seed_)));
  return state;
}

void Text::load_state_dict(const tessera::StateDict& loaded) {
  const auto number = [&](const char* key) {
    const tessera::Value* value = loaded.object(key);
    if (!value || !value->as<int64_t>())
      throw Error({.code = Code::mismatch, .what = std::string("the data position has no '") + key + "'"});
    return *value->as<int64_t>();
  };
  if (number("seed") != static_cast<int64_t>(seed_)) {
    throw Error({.code = Code::mismatch,
                 .what = "the run was begun with --seed " + std::to_string(number("seed")) + ", not " + std::to_string(seed_)});
  }
  taken_ = number("taken");
}
