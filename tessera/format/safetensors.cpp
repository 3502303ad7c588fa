#include "tessera/format/safetensors.h"

#include <algorithm>
#include <array>
#include <limits>
#include <tuple>

#include "tessera/base/checked.h"
#include "tessera/format/json.h"

namespace tessera::format {
namespace {

using nlohmann::json;

constexpr int64_t length_bytes = 8;   // before the header
constexpr size_t most_dims = 64;
constexpr const char* metadata_name = "__metadata__";
constexpr const char* sharding_name = "DCP_SHARDING_INFO";

struct Named {
  const char* name;
  DType dtype;
};
constexpr std::array names = {
    Named{"BOOL", DType::boolean},
    Named{"U8", DType::uint8},
    Named{"I8", DType::int8},
    Named{"F8_E5M2", DType::float8_e5m2},
    Named{"F8_E4M3", DType::float8_e4m3fn},
    Named{"F8_E8M0", DType::float8_e8m0fnu},
    Named{"F8_E4M3FNUZ", DType::float8_e4m3fnuz},
    Named{"F8_E5M2FNUZ", DType::float8_e5m2fnuz},
    Named{"I16", DType::int16},
    Named{"U16", DType::uint16},
    Named{"F16", DType::float16},
    Named{"BF16", DType::bfloat16},
    Named{"I32", DType::int32},
    Named{"U32", DType::uint32},
    Named{"F32", DType::float32},
    Named{"C64", DType::complex64},
    Named{"F64", DType::float64},
    Named{"I64", DType::int64},
    Named{"U64", DType::uint64},
    Named{"F4", DType::float4_e2m1fn_x2},
};

// Two values of F4 share a byte, and shapes count values; ours count bytes.
bool is_packed(DType dtype) { return dtype == DType::float4_e2m1fn_x2; }

class HeaderReader {
 public:
  explicit HeaderReader(const ByteSource& file) : file_(file) {}

  SafetensorsFile read(const Limits& limits) {
    std::array<std::byte, length_bytes> length{};
    if (file_.size_bytes() < length_bytes) throw bad("a file too short to be safetensors");
    file_.read(0, length);
    const uint64_t header = ByteReader(length).get<uint64_t>();
    if (header > static_cast<uint64_t>(limits.header_bytes)) throw bad("a header of " + std::to_string(header) + " bytes", Code::limit);
    if (!inside(length_bytes, header, file_.size_bytes())) throw bad("a header that reaches past the file's end");
    Bytes text(header);
    file_.read(length_bytes, text);
    if (text.empty() || text.front() != std::byte{'{'}) throw bad("a header that does not begin with '{'");
    data_at_ = length_bytes + static_cast<int64_t>(header);
    const json parsed = parse_json(as_text(text), file_.file(), file_.origin_bytes() + length_bytes);
    SafetensorsFile out;
    for (const auto& [name, value] : parsed.items()) {
      if (name == metadata_name) out.metadata = strings(value);
      else out.tensors.push_back(tensor(name, value));
    }
    check_tiling(out.tensors);
    if (const auto info = out.metadata.find(sharding_name); info != out.metadata.end()) {
      out.saved_offsets = saved_offsets(info->second, out.tensors);
    }
    return out;
  }

 private:
  Error bad(std::string what, Code code = Code::corrupt) const {
    return Error({.code = code, .what = std::move(what), .file = file_.file(), .offset_bytes = file_.origin_bytes()});
  }

  std::map<std::string, std::string> strings(const json& value) const {
    if (!value.is_object()) throw bad("a __metadata__ that is no object");
    std::map<std::string, std::string> out;
    for (const auto& [name, text] : value.items()) {
      if (!text.is_string()) throw bad("a __metadata__ whose values are not all strings");
      out[name] = text.get<std::string>();
    }
    return out;
  }

  int64_t number(const json& value, const std::string& key) const {
    if (!value.is_number_unsigned() || value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      throw bad("a number of '" + key + "' that is no size");
    }
    return static_cast<int64_t>(value.get<uint64_t>());
  }
  Sizes numbers(const json& value, const std::string& key) const {
    if (!value.is_array()) throw bad("a shape or range of '" + key + "' that is no list");
    if (value.size() > most_dims) throw bad("a shape of '" + key + "' of more than 64 dimensions");
    Sizes out;
    for (const json& item : value) out.push_back(number(item, key));
    return out;
  }

  SafeTensor tensor(const std::string& key, const json& value) const {
    const bool known = value.is_object() && value.size() == 3 && value.contains("dtype") && value.contains("shape") &&
                       value.contains("data_offsets") && value["dtype"].is_string();
    if (!known) throw bad("'" + key + "' is not described by dtype, shape and data_offsets");
    const std::string dtype = value["dtype"].get<std::string>();
    const auto named = std::ranges::find(names, dtype, [](const Named& n) { return std::string(n.name); });
    if (named == names.end()) throw bad("the dtype '" + dtype + "' of '" + key + "'", Code::unsupported);
    SafeTensor tensor{key, named->dtype, numbers(value["shape"], key), 0, 0};
    if (is_packed(tensor.dtype)) {
      if (tensor.sizes.empty() || tensor.sizes.back() % 2) throw bad("half a byte in '" + key + "'", Code::unsupported);
      tensor.sizes.back() /= 2;
    }
    const Sizes range = numbers(value["data_offsets"], key);
    if (range.size() != 2 || range[0] > range[1]) throw bad("a range of '" + key + "' that is none");
    tensor.offset_bytes = range[0];
    tensor.length_bytes = range[1] - range[0];
    const auto bytes = capture([&] { return checked_multiply(checked_volume(tensor.sizes), element_bytes(tensor.dtype)); });
    if (!bytes) throw bad("the shape of '" + key + "' overflows 64 bits");
    if (tensor.length_bytes != *bytes.value) {
      throw bad("'" + key + "' has " + std::to_string(tensor.length_bytes) + " bytes, its shape " + std::to_string(*bytes.value));
    }
    return tensor;
  }

  // The ranges, sorted, fill the data exactly. From here on offsets count from the file's start.
  void check_tiling(std::vector<SafeTensor>& tensors) const {
    std::ranges::sort(tensors, [](const SafeTensor& a, const SafeTensor& b) {
      return std::tie(a.offset_bytes, a.length_bytes) < std::tie(b.offset_bytes, b.length_bytes);
    });
    int64_t end = 0;
    for (SafeTensor& tensor : tensors) {
      if (tensor.offset_bytes != end) throw bad("a hole or an overlap before '" + tensor.key + "'");
      if (!inside(data_at_ + end, static_cast<uint64_t>(tensor.length_bytes), file_.size_bytes())) {
        throw bad("'" + tensor.key + "' reaches past the file's end");
      }
      end += tensor.length_bytes;
      tensor.offset_bytes += data_at_;
    }
    if (data_at_ + end != file_.size_bytes()) throw bad("bytes after the last tensor");
  }

  std::map<std::string, Sizes> saved_offsets(const std::string& text, const std::vector<SafeTensor>& tensors) const {
    const json parsed = parse_json(text, file_.file(), file_.origin_bytes() + length_bytes);
    if (!parsed.is_object()) throw bad("a DCP_SHARDING_INFO that is no object");
    std::map<std::string, Sizes> out;
    for (const SafeTensor& tensor : tensors) {
      if (!parsed.contains(tensor.key)) throw bad("a DCP_SHARDING_INFO without '" + tensor.key + "'");
      const json& info = parsed[tensor.key];
      if (!info.is_object() || !info.contains("saved_offsets"))
        throw bad("a DCP_SHARDING_INFO without the offsets of '" + tensor.key + "'");
      Sizes offsets = numbers(info["saved_offsets"], tensor.key);
      if (offsets.size() != tensor.sizes.size()) throw bad("offsets of '" + tensor.key + "' with other dimensions than its shape");
      out[tensor.key] = std::move(offsets);
    }
    return out;
  }

  const ByteSource& file_;
  int64_t data_at_ = 0;
};

// A JSON string; keys that are no UTF-8 have none.
std::string json_text(const std::string& key) {
  try {
    return json(key).dump();
  } catch (const json::exception&) {
    throw Error({.code = Code::unsupported, .what = "a key that is not UTF-8 has no place in safetensors"});
  }
}

}  // namespace

SafetensorsFile read_safetensors(const ByteSource& file, const Limits& limits) { return HeaderReader(file).read(limits); }

Bytes lay_out_safetensors(std::vector<SafeTensor>& tensors, const std::map<std::string, std::string>& metadata) {
  std::ranges::sort(tensors, [](const SafeTensor& a, const SafeTensor& b) {
    const int64_t each_a = element_bytes(a.dtype);
    const int64_t each_b = element_bytes(b.dtype);
    return each_a != each_b ? each_a > each_b : a.key < b.key;
  });
  std::string header = "{";
  if (!metadata.empty()) header += json_text(metadata_name) + ":" + json(metadata).dump();
  int64_t end = 0;
  for (SafeTensor& tensor : tensors) {
    const auto named = std::ranges::find(names, tensor.dtype, &Named::dtype);
    if (named == names.end()) {
      throw Error(
          {.code = Code::unsupported, .what = "'" + tensor.key + "' is " + std::string(name(tensor.dtype)) + ", which safetensors lacks"});
    }
    if (tensor.key == metadata_name)
      throw Error({.code = Code::unsupported, .what = "a tensor cannot be named __metadata__ in safetensors"});
    tensor.offset_bytes = end;
    tensor.length_bytes = checked_multiply(checked_volume(tensor.sizes, Code::invalid_argument), element_bytes(tensor.dtype));
    end = checked_add(end, tensor.length_bytes);
    Sizes shape = tensor.sizes;
    if (is_packed(tensor.dtype)) {
      if (shape.empty())
        throw Error({.code = Code::unsupported, .what = "'" + tensor.key + "' has no last dimension to count half bytes in"});
      shape.back() *= 2;
    }
    header += (header.size() > 1 ? "," : "") + json_text(tensor.key) + ":{\"dtype\":\"" + named->name +
              "\",\"shape\":" + json(shape).dump() + ",\"data_offsets\":[" + std::to_string(tensor.offset_bytes) + "," +
              std::to_string(end) + "]}";
  }
  header += "}";
  header.append((8 - header.size() % 8) % 8, ' ');
  if (static_cast<int64_t>(header.size()) > Limits{}.header_bytes) {
    throw Error({.code = Code::limit, .what = "more tensors than one safetensors header may name", .hint = "write several files"});
  }
  for (SafeTensor& tensor : tensors) tensor.offset_bytes += length_bytes + static_cast<int64_t>(header.size());
  ByteWriter out;
  out.put<uint64_t>(header.size());
  out.put_raw(as_bytes(header));
  return out.take();
}

WeightMap read_weight_map(std::span<const std::byte> index, const std::string& file) {
  const json parsed = parse_json(as_text(index), file, 0);
  const auto bad = [&](const std::string& what) { return Error({.code = Code::corrupt, .what = what, .file = file}); };
  if (!parsed.is_object() || !parsed.contains("weight_map") || !parsed["weight_map"].is_object())
    throw bad("an index without a weight_map");
  WeightMap map;
  for (const auto& [key, name] : parsed["weight_map"].items()) {
    if (!name.is_string()) throw bad("a weight_map whose values are not all names");
    const std::string text = name.get<std::string>();
    const bool plain =
        !text.empty() && text != "." && text != ".." && text.find('/') == std::string::npos && text.find('\0') == std::string::npos;
    if (!plain) throw bad("a weight_map that names something else than a file beside it");
    map[key] = text;
  }
  return map;
}

Bytes write_weight_map(const WeightMap& map, int64_t total_bytes) {
  const json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", map}};
  const std::string text = index.dump(2);
  return {as_bytes(text).begin(), as_bytes(text).end()};
}

}  // namespace tessera::format
