#include "tessera/plan/description.h"

#include "tessera/base/checked.h"
#include "tessera/format/item.h"

namespace tessera {
namespace {

enum class Kind : uint8_t { tensor, object };
enum class Step : uint8_t { name, index };

// A one-byte choice between two, in which every other byte is damage.
template <class Choice>
Choice get_choice(ByteReader& in) {
  const auto choice = in.get<uint8_t>();
  if (choice > 1) throw Error({.code = Code::corrupt, .what = "a message holds what is neither of two kinds"});
  return static_cast<Choice>(choice);
}

KeyPath get_path(ByteReader& in, const std::string& key) {
  const auto count = in.get<uint32_t>();
  if (count == 0) return {key};
  KeyPath path;
  for (uint32_t i = 0; i < count; ++i) {
    if (get_choice<Step>(in) == Step::index) path.emplace_back(in.get<int64_t>());
    else path.emplace_back(in.get_string());
  }
  return path;
}

std::string list_of(const std::vector<Box>& boxes) {
  std::string text;
  for (const Box& box : boxes) text += (text.empty() ? "" : " and ") + to_string(box);
  return text.empty() ? "nothing" : text;
}

void check_layout(const std::string& key, const TensorLeaf& leaf, const std::vector<Box>& boxes, int rank, int ranks) {
  auto expected = capture([&] { return boxes_of(*leaf.layout, leaf.sizes, rank, ranks); });
  if (!expected) {
    expected.fault.what = "the layout of '" + key + "': " + expected.fault.what;
    throw Error(std::move(expected.fault));
  }
  if (boxes == *expected.value) return;
  throw Error({.code = Code::invalid_argument,
               .what = "the layout of '" + key + "' gives rank " + std::to_string(rank) + " of " + std::to_string(ranks) + " " +
                       list_of(*expected.value) + ", but it holds " + list_of(boxes)});
}

TensorPart describe_tensor(const std::string& key, const TensorLeaf& leaf, int rank, int ranks) {
  const auto fail = [&](const std::string& what) { throw Error({.code = Code::invalid_argument, .what = what + " of '" + key + "'"}); };
  checked_multiply(checked_volume(leaf.sizes, Code::invalid_argument), element_bytes(leaf.dtype), Code::invalid_argument);
  TensorPart part{leaf.dtype, leaf.sizes, {}, {}, !leaf.layout || is_alike(*leaf.layout)};
  for (const Shard& shard : leaf.shards) {
    if (!fits(shard.box, leaf.sizes)) fail("box " + to_string(shard.box) + " lies outside the shape " + to_string(leaf.sizes));
    if (shard.view.sizes != shard.box.sizes)
      fail("a view of shape " + to_string(shard.view.sizes) + " stands for box " + to_string(shard.box));
    if (shard.view.strides.size() != shard.view.sizes.size()) fail("a view has not one stride for each dimension");
    if (shard.view.dtype != leaf.dtype) fail("a view's dtype differs from the tensor's");
    if (!shard.view.data && volume(shard.box) > 0) fail("a view has no memory");
    part.boxes.push_back(shard.box);
  }
  if (leaf.layout) check_layout(key, leaf, part.boxes, rank, ranks);
  return part;
}

void put_part(ByteWriter& out, const std::string& key, const Part& part, bool with_contents) {
  out.put_string(key);
  put_path(out, key, part.path);
  if (const auto* tensor = std::get_if<TensorPart>(&part.is)) {
    out.put(Kind::tensor);
    out.put(tensor->dtype);
    out.put_list<int64_t>(tensor->sizes);
    out.put(tensor->alike);
    out.put<uint64_t>(tensor->boxes.size());
    for (const Box& box : tensor->boxes) {
      for (const int64_t offset : box.offsets) out.put(offset);
      for (const int64_t size : box.sizes) out.put(size);
    }
    if (!with_contents) return;
    out.put<uint64_t>(tensor->contents.size());
    for (const auto& content : tensor->contents) {
      out.put<uint8_t>(content.has_value());
      if (content) out.put_raw(*content);
    }
  } else {
    const auto& object = std::get<ObjectPart>(part.is);
    out.put(Kind::object);
    out.put(object.length_bytes);
    if (with_contents) out.put_raw(object.content);
  }
}

}  // namespace

void put_path(ByteWriter& out, const std::string& key, const KeyPath& path) {
  // The path of a flat state is its key: the usual case costs four bytes.
  const bool flat = path.size() == 1 && std::holds_alternative<std::string>(path[0]) && std::get<std::string>(path[0]) == key;
  out.put<uint32_t>(flat ? 0 : static_cast<uint32_t>(path.size()));
  if (flat) return;
  for (const PathElement& element : path) {
    if (const auto* index = std::get_if<int64_t>(&element)) {
      out.put(Step::index);
      out.put(*index);
    } else {
      out.put(Step::name);
      out.put_string(std::get<std::string>(element));
    }
  }
}

std::string rank_local_key(const std::string& key, int rank) { return key + ".rank" + std::to_string(rank); }

KeyPath rank_local_path(KeyPath path, int rank) {
  const std::string ending = "rank" + std::to_string(rank);
  if (auto* last = path.empty() ? nullptr : std::get_if<std::string>(&path.back())) *last += "." + ending;
  else path.emplace_back(ending);
  return path;
}

Described describe(const StateDict& state, int rank, int ranks) {
  Described out;
  const auto add_object = [&](std::string key, KeyPath path, const Value& value) {
    Bytes item = format::write_object_item(value);
    out.description.emplace(key, Part{std::move(path), ObjectPart{static_cast<int64_t>(item.size()), digest(item)}});
    if (!out.objects.emplace(std::move(key), std::move(item)).second)
      throw Error({.code = Code::invalid_argument, .what = "two values under one key"});
  };
  for (const auto& [key, leaf] : state.leaves) {
    if (const auto* tensor = std::get_if<TensorLeaf>(&leaf.is)) {
      // Leaves come in the order of their keys.
      out.description.emplace_hint(out.description.end(), key, Part{leaf.path, describe_tensor(key, *tensor, rank, ranks)});
      out.tensors.emplace_hint(out.tensors.end(), key, tensor);
    } else if (const auto* local = std::get_if<RankLocal>(&leaf.is)) {
      const std::string local_key = rank_local_key(key, rank);
      add_object(local_key, rank_local_path(leaf.path, rank), local->value);
      out.rank_local.insert(local_key);
    } else {
      add_object(key, leaf.path, std::get<Value>(leaf.is));
    }
  }
  return out;
}

void check_views(const StateDict& state, int rank, int ranks) {
  for (const auto& [key, leaf] : state.leaves) {
    if (const auto* tensor = std::get_if<TensorLeaf>(&leaf.is)) describe_tensor(key, *tensor, rank, ranks);
  }
}

Description with_digests(const Described& described, const std::vector<HeldBox>& boxes) {
  Description description = described.description;
  for (const auto& [key, box] : boxes) {
    auto& part = std::get<TensorPart>(description.at(key).is);
    part.contents.resize(part.boxes.size());
    DigestStream stream;
    for_each_run(described.tensors.at(key)->shards.at(static_cast<size_t>(box)).view, [&](std::span<std::byte> run) { stream.add(run); });
    part.contents.at(static_cast<size_t>(box)) = stream.result();
  }
  return description;
}

Bytes encode(const std::vector<HeldBox>& boxes) {
  ByteWriter out;
  out.put<uint64_t>(boxes.size());
  for (const auto& [key, box] : boxes) {
    out.put_string(key);
    out.put(box);
  }
  return out.take();
}

std::vector<HeldBox> decode_held_boxes(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  std::vector<HeldBox> boxes(in.get_count(1));
  for (auto& [key, box] : boxes) {
    key = in.get_string();
    box = in.get<int32_t>();
  }
  return boxes;
}

Bytes encode(const Description& description) {
  ByteWriter out;
  out.put<uint64_t>(description.size());
  for (const auto& [key, part] : description) put_part(out, key, part, true);
  return out.take();
}

Digest shape_digest(const Description& description) {
  ByteWriter out;
  for (const auto& [key, part] : description) put_part(out, key, part, false);
  return digest(out.take());
}

Description decode_description(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Description description;
  const size_t leaves = in.get_count(1);
  for (size_t i = 0; i < leaves; ++i) {
    const std::string key = in.get_string();
    Part part{get_path(in, key), {}};
    if (get_choice<Kind>(in) == Kind::tensor) {
      TensorPart tensor;
      tensor.dtype = in.get<DType>();
      if (tensor.dtype > DType::float4_e2m1fn_x2) throw Error({.code = Code::corrupt, .what = "a message names an unknown dtype"});
      tensor.sizes = Sizes(in.get_count(sizeof(int64_t)));
      for (int64_t& size : tensor.sizes) size = in.get<int64_t>();
      tensor.alike = in.get<uint8_t>() != 0;
      const size_t dims = tensor.sizes.size();
      // A box of a tensor without dimensions takes no bytes; more than one of it is one too many anyway.
      const size_t count =
          dims == 0 ? static_cast<size_t>(std::min<uint64_t>(in.get<uint64_t>(), 2)) : in.get_count(2 * dims * sizeof(int64_t));
      for (size_t b = 0; b < count; ++b) {
        Box box{Sizes(dims), Sizes(dims)};
        for (int64_t& offset : box.offsets) offset = in.get<int64_t>();
        for (int64_t& size : box.sizes) size = in.get<int64_t>();
        tensor.boxes.push_back(std::move(box));
      }
      tensor.contents.resize(in.get_count(1));
      for (auto& content : tensor.contents) {
        if (in.get<uint8_t>()) std::ranges::copy(in.get_raw(sizeof(Digest)), content.emplace().begin());
      }
      if (!tensor.contents.empty() && tensor.contents.size() != count)
        throw Error({.code = Code::corrupt, .what = "a message has not one digest for each box"});
      part.is = std::move(tensor);
    } else {
      ObjectPart object;
      object.length_bytes = in.get<int64_t>();
      std::ranges::copy(in.get_raw(object.content.size()), object.content.begin());
      part.is = object;
    }
    description.emplace(key, std::move(part));
  }
  return description;
}

}  // namespace tessera
