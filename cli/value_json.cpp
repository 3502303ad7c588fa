#include "cli/value_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>

#include "cli/text.h"

namespace tessera::cli {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

std::string tagged(std::string_view type, std::string_view members) { return fmt::format(R"({{"t": "{}", {}}})", type, members); }

template <class Items, class Json>
std::string array(const Items& items, Json json) {
  std::string text;
  for (const auto& item : items) text += (text.empty() ? "" : ", ") + json(item);
  return "[" + text + "]";
}

std::string_view type_name(Value::SequenceKind kind) {
  switch (kind) {
    case Value::SequenceKind::list: return "list";
    case Value::SequenceKind::tuple: return "tuple";
    case Value::SequenceKind::set: return "set";
    case Value::SequenceKind::frozenset: return "frozenset";
  }
  return {};
}

std::string_view type_name(Value::BytesKind kind) {
  switch (kind) {
    case Value::BytesKind::bytes: return "bytes";
    case Value::BytesKind::bytearray: return "bytearray";
    case Value::BytesKind::bytes_io: return "BytesIO";
  }
  return {};
}

// A set has no order of its own, so its elements are sorted by their text: equal sets print alike.
std::string sequence_json(const Value::Sequence& sequence) {
  std::vector<const Value*> items;
  for (const Value& item : sequence.items) items.push_back(&item);
  if (sequence.kind == Value::SequenceKind::set || sequence.kind == Value::SequenceKind::frozenset) {
    std::ranges::stable_sort(items, {}, [](const Value* item) { return to_string(*item); });
  }
  return tagged(type_name(sequence.kind), "\"v\": " + array(items, [](const Value* item) { return value_json(*item); }));
}

std::string mapping_json(const Value::Mapping& mapping) {
  const auto pair = [](const auto& item) { return "[" + value_json(item.first) + ", " + value_json(item.second) + "]"; };
  return tagged(mapping.ordered ? "OrderedDict" : "dict", "\"v\": " + array(mapping.items, pair));
}

std::string tensor_json(const Value::Tensor& tensor) {
  return tagged("tensor",
                fmt::format(R"("dtype": "{}", "shape": {}, "hex": "{}")", name(tensor.dtype), sizes_json(tensor.sizes), hex(tensor.data)));
}

}  // namespace

std::string value_json(const Value& value) {
  return std::visit(Overloaded{
                        [](const Value::None&) -> std::string { return R"({"t": "none"})"; },
                        [](bool v) { return tagged("bool", v ? "\"v\": true" : "\"v\": false"); },
                        [](int64_t v) { return tagged("int", fmt::format(R"("v": "{}")", v)); },
                        [](const Value::BigInt& v) { return tagged("int", "\"v\": " + json_string(v.decimal)); },
                        [](double v) { return tagged("float", fmt::format(R"("v": "{}", "hex": "{}")", float_repr(v), float_hex(v))); },
                        [](const std::string& v) { return tagged("str", "\"v\": " + json_string(v)); },
                        [](const Value::ByteString& v) { return tagged(type_name(v.kind), fmt::format(R"("hex": "{}")", hex(v.data))); },
                        [](const Value::Complex& v) {
                          return tagged("complex", fmt::format(R"("re": "{}", "im": "{}")", float_hex(v.re), float_hex(v.im)));
                        },
                        [](const Value::Sequence& v) { return sequence_json(v); },
                        [](const Value::Mapping& v) { return mapping_json(v); },
                        [](const Value::TorchDType& v) { return tagged("dtype", "\"v\": " + json_string(v.name)); },
                        [](const Value::TorchSize& v) { return tagged("size", "\"v\": " + sizes_json(v.sizes)); },
                        [](const Value::TorchDevice& v) { return tagged("device", "\"v\": " + json_string(v.name)); },
                        [](const Value::Tensor& v) { return tensor_json(v); },
                        [](const Value::Opaque& v) { return tagged("opaque", "\"global\": " + json_string(v.global)); },
                    },
                    value.is);
}

std::string sizes_json(std::span<const int64_t> sizes) {
  return array(sizes, [](int64_t size) { return std::to_string(size); });
}

std::string hex(std::span<const std::byte> bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) {
    text += digits[std::to_integer<int>(byte) >> 4];
    text += digits[std::to_integer<int>(byte) & 15];
  }
  return text;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char scientific[40];
  const auto end = std::to_chars(scientific, std::end(scientific), value, std::chars_format::scientific).ptr;
  const std::string_view text(scientific, static_cast<size_t>(end - scientific));
  const size_t e = text.find('e');
  const int exponent = std::stoi(std::string(text.substr(e + 1)));
  // Python writes an exponent below 1e-4 and from 1e16 on, as here; otherwise all digits.
  if (exponent < -4 || exponent >= 16) return std::string(text);
  char fixed[40];
  const auto fixed_end = std::to_chars(fixed, std::end(fixed), value, std::chars_format::fixed).ptr;
  std::string plain(fixed, static_cast<size_t>(fixed_end - fixed));
  if (plain.find('.') == std::string::npos) plain += ".0";
  return plain;
}

std::string float_hex(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  const char* sign = std::signbit(value) ? "-" : "";
  if (value == 0) return fmt::format("{}0x0.0p+0", sign);
  const auto bits = std::bit_cast<uint64_t>(value);
  const int exponent = static_cast<int>((bits >> 52) & 0x7ff);
  const uint64_t mantissa = bits & ((uint64_t{1} << 52) - 1);
  if (exponent == 0) return fmt::format("{}0x0.{:013x}p-1022", sign, mantissa);
  return fmt::format("{}0x1.{:013x}p{:+d}", sign, mantissa, exponent - 1023);
}

}  // namespace tessera::cli
