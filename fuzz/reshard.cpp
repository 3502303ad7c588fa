// Resharding, against an oracle that goes element by element: a plan is made exactly when the ranks' boxes tile the tensor, each box is
// written once by a rank that holds it, and any box that is read back is filled exactly once, with the right elements.
#include <algorithm>
#include <set>

#include "fuzz/choices.h"
#include "fuzz/properties.h"
#include "tessera/checkpoint/checkpoint.h"
#include "tessera/format/dcp.h"
#include "tessera/plan/load_plan.h"
#include "tessera/plan/save_plan.h"
#include "tessera/storage/memory_storage.h"
#include "tessera/transfer/write_shards.h"

namespace tessera::fuzz {
namespace {

constexpr const char* key = "w";

Sizes pick_sizes(Choices& choices) {
  Sizes sizes(static_cast<size_t>(choices.pick(4)));
  for (int64_t& size : sizes) size = choices.pick(6);
  return sizes;
}

// A box inside a tensor of these sizes; it may be empty.
Box pick_box(Choices& choices, const Sizes& sizes) {
  Box box;
  for (const int64_t size : sizes) {
    box.offsets.push_back(choices.pick(size + 1));
    box.sizes.push_back(choices.pick(size - box.offsets.back() + 1));
  }
  return box;
}

// Calls work(index in the box, place in the tensor in row-major order) for every element of a box.
template <class Work>
void for_each_element(const Box& box, const Sizes& sizes, Work work) {
  if (volume(box) == 0) return;
  Sizes index(sizes.size(), 0);
  for (;;) {
    int64_t place = 0;
    for (size_t d = 0; d < sizes.size(); ++d) place = place * sizes[d] + box.offsets[d] + index[d];
    work(index, place);
    size_t d = sizes.size();
    for (; d > 0; --d) {
      if (++index[d - 1] < box.sizes[d - 1]) break;
      index[d - 1] = 0;
    }
    if (d == 0) return;
  }
}

// True if every element of `target` is in exactly one of the boxes, and no other element in any.
bool tiles_exactly(const std::vector<Box>& boxes, const Box& target, const Sizes& sizes) {
  std::vector<int> times(static_cast<size_t>(volume(sizes)), 0);
  for (const Box& box : boxes) {
    if (!fits(box, sizes)) return false;
    for_each_element(box, sizes, [&](const Sizes&, int64_t place) { ++times[static_cast<size_t>(place)]; });
  }
  for_each_element(target, sizes, [&](const Sizes&, int64_t place) { --times[static_cast<size_t>(place)]; });
  return std::ranges::all_of(times, [](int count) { return count == 0; });
}

// The tensor cut into boxes: by planes, as meshes do, or as ranges of the flat tensor.
std::vector<Box> pick_boxes(Choices& choices, const Sizes& sizes) {
  if (choices.maybe() && volume(sizes) > 0) {
    std::vector<Box> boxes;
    for (int64_t begin = 0; begin < volume(sizes);) {
      const int64_t end = std::min(volume(sizes), begin + 1 + choices.pick(60));
      const std::vector<Box> of_range = boxes_of_range(sizes, begin, end);
      int64_t next = begin;
      for (const Box& box : of_range) {
        for_each_element(box, sizes,
                         [&](const Sizes&, int64_t place) { require(place == next++, "boxes go through their range in order"); });
      }
      require(next == end && of_range.size() <= 2 * std::max<size_t>(1, sizes.size()) - 1, "boxes cover their range, and are few");
      boxes.insert(boxes.end(), of_range.begin(), of_range.end());
      begin = end;
    }
    return boxes;
  }
  std::vector<Box> boxes = {whole(sizes)};
  for (int64_t cuts = sizes.empty() ? 0 : choices.pick(7); cuts > 0; --cuts) {
    Box& box = boxes[static_cast<size_t>(choices.pick(static_cast<int64_t>(boxes.size())))];
    const auto d = static_cast<size_t>(choices.pick(static_cast<int64_t>(sizes.size())));
    const int64_t at = choices.pick(box.sizes[d] + 1);
    Box rest = box;
    rest.offsets[d] += at;
    rest.sizes[d] -= at;
    box.sizes[d] = at;
    boxes.push_back(std::move(rest));
  }
  return boxes;
}

// Each box to one rank at least.
std::vector<std::vector<Box>> pick_holders(Choices& choices, const std::vector<Box>& boxes) {
  std::vector<std::vector<Box>> ranks(1 + static_cast<size_t>(choices.pick(4)));
  const auto count = static_cast<int64_t>(ranks.size());
  for (const Box& box : boxes) {
    std::set<int64_t> holders = {choices.pick(count)};
    while (choices.pick(4) == 3) holders.insert(choices.pick(count));
    for (const int64_t rank : holders) ranks[static_cast<size_t>(rank)].push_back(box);
  }
  return ranks;
}

// What a rank might say that is not so.
void damage(Choices& choices, std::vector<std::vector<Box>>& ranks) {
  std::vector<Box>& boxes = ranks[static_cast<size_t>(choices.pick(static_cast<int64_t>(ranks.size())))];
  if (boxes.empty()) return;
  const auto at = static_cast<size_t>(choices.pick(static_cast<int64_t>(boxes.size())));
  if (boxes[at].sizes.empty() || choices.pick(4) == 0) {
    boxes.erase(boxes.begin() + static_cast<std::ptrdiff_t>(at));
    return;
  }
  constexpr int64_t huge = int64_t{1} << 62;
  constexpr int64_t changes[] = {1, -1, 2, huge, -huge};
  Sizes& numbers = choices.maybe() ? boxes[at].offsets : boxes[at].sizes;
  numbers[static_cast<size_t>(choices.pick(static_cast<int64_t>(numbers.size())))] += changes[choices.pick(5)];
}

bool is_empty(const Box& box) {
  return std::ranges::any_of(box.sizes, [](int64_t size) { return size == 0; });
}

// What plan_save must make of it. Replicas are the same box on several ranks or twice on one.
bool should_plan(const std::vector<std::vector<Box>>& ranks, const Sizes& sizes) {
  std::set<Box> distinct;
  for (const auto& boxes : ranks) distinct.insert(boxes.begin(), boxes.end());
  if (!std::ranges::all_of(distinct, [&](const Box& box) { return fits(box, sizes); })) return false;
  if (volume(sizes) == 0) return distinct.contains(whole(sizes));
  std::vector<Box> full;
  std::ranges::copy_if(distinct, std::back_inserter(full), [](const Box& box) { return !is_empty(box); });
  return tiles_exactly(full, whole(sizes), sizes);
}

// Each box of the tensor is one item of one rank that holds it, and items stand one after the other in their files.
void check_plan(const SavePlan& plan, const std::vector<std::vector<Box>>& ranks, const Sizes& sizes) {
  validate(plan.manifest);
  require(format::decode_metadata(format::encode_metadata(plan.manifest)) == plan.manifest, "the plan's manifest is what is read again");
  const auto& entry = std::get<TensorEntry>(plan.manifest.entries.at(key).is);
  require(entry.sizes == sizes, "the plan keeps the shape");
  size_t items = 0;
  for (size_t r = 0; r < ranks.size(); ++r) {
    int64_t at = 0;
    for (const WriteItem& item : plan.ranks[r].items) {
      const Box& box = ranks[r].at(static_cast<size_t>(item.box));
      const Chunk chunk{box, {plan.ranks[r].file, at, item.length_bytes, {}}};
      require(std::ranges::count(entry.chunks, chunk) == 1, "each item is one chunk of the manifest");
      at += item.length_bytes;
      ++items;
    }
    require(at == plan.ranks[r].file_bytes, "a file is as long as its items");
  }
  require(items == entry.chunks.size(), "each chunk is one item");
}

std::byte byte_at(int64_t place, int64_t byte) { return static_cast<std::byte>(place * 37 + byte * 11 + 1); }

// Memory for a box, its dimensions in either order, each element telling its place in the tensor or, unfilled, nothing.
struct Memory {
  std::vector<std::byte> bytes;
  View view;
  Memory(Choices& choices, DType dtype, const Box& box, const Sizes& sizes, bool filled) {
    bytes.resize(static_cast<size_t>(volume(box) * element_bytes(dtype)) + 1);
    view = dense_view(bytes.data(), dtype, box.sizes);
    if (choices.maybe()) {
      int64_t stride = 1;
      for (size_t d = 0; d < box.sizes.size(); ++d) {
        view.strides[d] = stride;
        stride *= std::max<int64_t>(1, box.sizes[d]);
      }
    }
    if (filled) for_each_byte(box, sizes, [](std::byte& byte, std::byte right) { byte = right; });
  }
  template <class Work>
  void for_each_byte(const Box& box, const Sizes& sizes, Work work) {
    const int64_t each = element_bytes(view.dtype);
    for_each_element(box, sizes, [&](const Sizes& index, int64_t place) {
      int64_t at = 0;
      for (size_t d = 0; d < index.size(); ++d) at += index[d] * view.strides[d];
      for (int64_t b = 0; b < each; ++b) work(view.data[at * each + b], byte_at(place, b));
    });
  }
};

void put(Storage& storage, const Path& file, std::span<const std::byte> bytes) {
  const auto writer = storage.create(file);
  writer->write(0, bytes);
  writer->close();
}

void read_back(Choices& choices, const Checkpoint& checkpoint, DType dtype, const Sizes& sizes) {
  const Box wanted = pick_box(choices, sizes);
  std::vector<Box> parts;
  for (const ChunkRead& read : cut(checkpoint.tensor(key), wanted)) {
    Box part = read.to;
    for (size_t d = 0; d < part.offsets.size(); ++d) part.offsets[d] += wanted.offsets[d];
    parts.push_back(std::move(part));
  }
  require(tiles_exactly(parts, wanted, sizes), "the reads fill what is wanted exactly once");
  Memory memory(choices, dtype, wanted, sizes, false);
  checkpoint.read(key, wanted, memory.view);
  memory.for_each_byte(wanted, sizes, [](std::byte byte, std::byte right) { require(byte == right, "each element is its own"); });
}

void save_and_read(Choices& choices, const std::vector<std::vector<Box>>& ranks, DType dtype, const Sizes& sizes) {
  std::vector<StateDict> states;
  std::vector<std::unique_ptr<Memory>> memory;
  for (const auto& boxes : ranks) {
    TensorLeaf leaf{dtype, sizes, {}};
    for (const Box& box : boxes) {
      memory.push_back(std::make_unique<Memory>(choices, dtype, box, sizes, true));
      leaf.shards.push_back({box, memory.back()->view});
    }
    states.emplace_back().add(key, std::move(leaf));
  }
  std::vector<Described> described;
  std::vector<Description> descriptions;
  for (size_t r = 0; r < states.size(); ++r) {
    described.push_back(tessera::describe(states[r], static_cast<int>(r), static_cast<int>(states.size())));
    descriptions.push_back(described.back().description);
  }
  SavePlan plan = plan_save(descriptions, "fuzz");
  const auto storage = std::make_shared<MemoryStorage>();
  for (size_t r = 0; r < states.size(); ++r) write_shards(plan.ranks[r], described[r], *storage, "");
  plan.manifest.writer_version = -1;  // nothing beside the files and their metadata
  plan.manifest.save_id.clear();
  put(*storage, format::metadata_file, format::encode_metadata(plan.manifest));
  const Checkpoint checkpoint = Checkpoint::open(storage, "");
  for (int reads = 0; reads < 4 && !(reads > 0 && choices.empty()); ++reads) read_back(choices, checkpoint, dtype, sizes);
}

}  // namespace
}  // namespace tessera::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tessera;
  using namespace tessera::fuzz;
  Choices choices(std::span(data, std::min<size_t>(size, 128)));
  const auto dtype = static_cast<DType>(choices.pick(static_cast<int64_t>(DType::float4_e2m1fn_x2) + 1));
  const Sizes sizes = pick_sizes(choices);
  auto ranks = pick_holders(choices, pick_boxes(choices, sizes));
  const bool damaged = choices.pick(3) == 2;
  if (damaged) damage(choices, ranks);
  std::vector<Description> descriptions;
  for (const auto& boxes : ranks) descriptions.push_back({{key, Part{{key}, TensorPart{dtype, sizes, boxes}}}});
  SavePlan plan;
  const bool planned = accepted([&] { plan = plan_save(descriptions, "fuzz"); }, {Code::invalid_argument});
  require(planned == should_plan(ranks, sizes), "a plan is made exactly when the boxes tile the tensor");
  if (!planned) return 0;
  check_plan(plan, ranks, sizes);
  if (!damaged) save_and_read(choices, ranks, dtype, sizes);
  return 0;
}
