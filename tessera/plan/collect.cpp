#include "tessera/plan/collect.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "tessera/base/checked.h"

namespace tessera {
namespace {

[[noreturn]] void disagree(const std::string& key, const std::string& about, int a, const std::string& of_a, int b, const std::string& of_b,
                           std::string hint = "every rank must describe the same tensors and objects") {
  std::string what = "ranks " + std::to_string(a) + " and " + std::to_string(b) + " disagree on the " + about + " of '" + key + "'";
  if (!of_a.empty()) what += ": " + of_a + " and " + of_b;
  throw Error({.code = Code::mismatch, .what = what, .hint = std::move(hint)});
}

void check_agreement(const std::string& key, int first_rank, const Part& first, int rank, const Part& part) {
  if (first.is.index() != part.is.index()) {
    const auto kind = [](const Part& p) { return std::string(std::holds_alternative<TensorPart>(p.is) ? "a tensor" : "an object"); };
    disagree(key, "kind", first_rank, kind(first), rank, kind(part));
  }
  if (first.path != part.path) disagree(key, "path", first_rank, join(first.path), rank, join(part.path));
  if (const auto* tensor = std::get_if<TensorPart>(&part.is)) {
    const auto& other = std::get<TensorPart>(first.is);
    if (tensor->dtype != other.dtype)
      disagree(key, "dtype", first_rank, std::string(name(other.dtype)), rank, std::string(name(tensor->dtype)));
    if (tensor->alike != other.alike)
      disagree(key, "layout", first_rank, other.alike ? "alike" : "the first rank's", rank, tensor->alike ? "alike" : "the first rank's");
    if (tensor->sizes != other.sizes) disagree(key, "shape", first_rank, to_string(other.sizes), rank, to_string(tensor->sizes));
  } else if (std::get<ObjectPart>(part.is) != std::get<ObjectPart>(first.is)) {
    disagree(key, "value", first_rank, "", rank, "", "an object is saved once for all ranks: make it equal, or rank-local");
  }
}

// Holds the replicas of each box against the first of them.
void check_replicas(const Collected& all, const std::vector<RankBox>& boxes) {
  const auto content = [&](const RankBox& held) -> const Digest* {
    const auto of_rank = std::ranges::lower_bound(all.held, held.rank, {}, &Held::rank);
    const auto& contents = std::get<TensorPart>(of_rank->part->is).contents;
    const auto box = static_cast<size_t>(held.index);
    return box < contents.size() && contents[box] ? &*contents[box] : nullptr;
  };
  const auto taken = [](const Held& held) { return !std::get<TensorPart>(held.part->is).contents.empty(); };
  if (std::ranges::none_of(all.held, taken)) return;
  for (size_t i = 0, first = 0; i < boxes.size(); ++i) {
    if (boxes[i].box != boxes[first].box) first = i;
    const RankBox &a = boxes[first], &b = boxes[i];
    const Digest* const of_a = content(a);
    const Digest* const of_b = content(b);
    if (!of_a || !of_b || *of_a == *of_b) continue;
    disagree(*all.key, "values in " + to_string(a.box), a.rank, "", b.rank, "",
             "a box is saved once for all who hold it: find out what made its replicas drift apart");
  }
}

}  // namespace

std::vector<Collected> collect(std::span<const Description> ranks) {
  std::vector<Collected> keys;
  std::unordered_map<std::string_view, size_t> known;
  for (size_t r = 0; r < ranks.size(); ++r) {
    const int rank = static_cast<int>(r);
    for (const auto& [key, part] : ranks[r]) {
      const auto [found, fresh] = known.try_emplace(key, keys.size());
      if (fresh) keys.push_back({&key, {}});
      std::vector<Held>& held = keys[found->second].held;
      if (!held.empty()) check_agreement(key, held.front().rank, *held.front().part, rank, part);
      if (fresh) held.reserve(r == 0 ? ranks.size() : 1);
      held.push_back({rank, &part});
    }
  }
  std::ranges::sort(keys, [](const Collected& a, const Collected& b) { return *a.key < *b.key; });
  return keys;
}

std::vector<RankBox> held_boxes(const Collected& all) {
  const auto bad = [&](const std::string& what) {
    return Error({.code = Code::invalid_argument, .what = what + " of '" + *all.key + "'"});
  };
  const Sizes& sizes = std::get<TensorPart>(all.held.front().part->is).sizes;
  if (!capture([&] { return checked_volume(sizes); })) throw bad("no tensor has the shape " + to_string(sizes));
  std::vector<RankBox> boxes;
  boxes.reserve(all.held.size());
  for (const auto& [rank, part] : all.held) {
    int32_t index = 0;
    for (const Box& box : std::get<TensorPart>(part->is).boxes) {
      if (!fits(box, sizes)) throw bad("rank " + std::to_string(rank) + " holds a box outside the shape " + to_string(sizes));
      boxes.push_back({box, rank, index++});
    }
  }
  if (!std::ranges::is_sorted(boxes, {}, &RankBox::box)) std::ranges::stable_sort(boxes, {}, &RankBox::box);
  return boxes;
}

void add(PlanBuilder& builder, const Collected& all) {
  const Part& first = *all.held.front().part;
  if (const auto* object = std::get_if<ObjectPart>(&first.is)) {
    std::vector<Holder> holders;
    for (const Held& held : all.held) holders.push_back({held.rank, -1});
    return builder.add_object(*all.key, first.path, object->length_bytes, std::move(holders));
  }
  const auto& tensor = std::get<TensorPart>(first.is);
  const auto boxes = [&all] {
    std::vector<RankBox> held = held_boxes(all);
    check_replicas(all, held);
    return held;
  };
  builder.add_tensor(*all.key, first.path, tensor.dtype, tensor.sizes, boxes, tensor.alike);
}

}  // namespace tessera
