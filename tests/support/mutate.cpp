#include "tests/support/mutate.h"

#include <algorithm>
#include <array>

namespace tessera {
namespace {

constexpr int64_t far_block_bytes = 512;
constexpr int64_t near_block_bytes = 64;
constexpr std::array byte_changes = {"xor 01", "xor 80", "xor FF", "set to 00"};

std::byte changed(std::byte byte, int64_t change) {
  constexpr std::byte masks[] = {std::byte{0x01}, std::byte{0x80}, std::byte{0xff}};
  return change < 3 ? byte ^ masks[change] : std::byte{0};
}

// The number-th pair of two different ones of many.
std::pair<int64_t, int64_t> pair_of(int64_t number) {
  int64_t second = 1;
  while (number >= second) number -= second++;
  return {number, second};
}

void swap_blocks(Bytes& bytes, int64_t a, int64_t b, int64_t block_bytes) {
  std::swap_ranges(bytes.begin() + a * block_bytes, bytes.begin() + (a + 1) * block_bytes, bytes.begin() + b * block_bytes);
}

}  // namespace

Mutations::Mutations(Files files, std::vector<Files> others) : files_(std::move(files)), others_(std::move(others)) {
  using Kind = Mutation::Kind;
  for (auto file = files_.begin(); file != files_.end(); ++file) {
    const auto size = static_cast<int64_t>(file->second->size());
    add(size * static_cast<int64_t>(byte_changes.size()), {0, Kind::byte, file->first, 1});
    add(size, {0, Kind::cut, file->first, 1});
    const int64_t blocks = size / far_block_bytes;
    add(blocks * (blocks - 1) / 2, {0, Kind::blocks, file->first, far_block_bytes});
    add(size / near_block_bytes - 1, {0, Kind::blocks, file->first, near_block_bytes});
    add(1, {0, Kind::missing_file, file->first, 1});
    for (auto second = std::next(file); second != files_.end(); ++second)
      add(1, {0, Kind::swapped_files, file->first, 1, 0, second->first});
    for (size_t o = 0; o < others_.size(); ++o) {
      if (others_[o].contains(file->first)) add(1, {0, Kind::foreign_file, file->first, 1, static_cast<int64_t>(o)});
    }
  }
}

void Mutations::add(int64_t count, Range range) {
  if (count <= 0) return;
  range.begin = count_;
  ranges_.push_back(std::move(range));
  count_ += count;
}

Mutation Mutations::at(int64_t index) const {
  const Range& range = *std::prev(std::ranges::upper_bound(ranges_, index, {}, &Range::begin));
  const int64_t number = index - range.begin;
  const Bytes& before = *files_.at(range.file);
  Mutation mutation{range.kind, range.file + ": ", {}};
  const auto change = [&](const Path& file, Bytes bytes) {
    if (bytes != *files_.at(file)) mutation.changes.emplace(file, std::move(bytes));
  };
  Bytes bytes = before;
  switch (range.kind) {
    case Mutation::Kind::byte: {
      const int64_t at = number / static_cast<int64_t>(byte_changes.size());
      const int64_t how = number % static_cast<int64_t>(byte_changes.size());
      mutation.what += "byte " + std::to_string(at) + " " + byte_changes[static_cast<size_t>(how)];
      bytes[static_cast<size_t>(at)] = changed(bytes[static_cast<size_t>(at)], how);
      change(range.file, std::move(bytes));
      break;
    }
    case Mutation::Kind::cut:
      mutation.what += "cut to " + std::to_string(number) + " bytes";
      bytes.resize(static_cast<size_t>(number));
      change(range.file, std::move(bytes));
      break;
    case Mutation::Kind::blocks: {
      const auto [a, b] = range.unit_bytes == far_block_bytes ? pair_of(number) : std::pair(number, number + 1);
      mutation.what +=
          "blocks " + std::to_string(a) + " and " + std::to_string(b) + " of " + std::to_string(range.unit_bytes) + " bytes change places";
      swap_blocks(bytes, a, b, range.unit_bytes);
      change(range.file, std::move(bytes));
      break;
    }
    case Mutation::Kind::swapped_files:
      mutation.what += "changes places with " + range.second;
      change(range.file, *files_.at(range.second));
      change(range.second, before);
      break;
    case Mutation::Kind::missing_file:
      mutation.what += "missing";
      mutation.changes.emplace(range.file, std::nullopt);
      break;
    case Mutation::Kind::foreign_file:
      mutation.what += "that of another save";
      change(range.file, *others_[static_cast<size_t>(range.other)].at(range.file));
      break;
  }
  return mutation;
}

}  // namespace tessera
