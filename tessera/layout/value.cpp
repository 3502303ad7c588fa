#include "tessera/layout/value.h"

#include <bit>
#include <charconv>
#include <cmath>

namespace tessera {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

bool same_bits(double a, double b) { return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b); }

// The shortest digits that read back as the same double, without an exponent where Python's repr has none.
std::string number(double v) {
  if (std::isnan(v)) return "nan";
  const double size = std::abs(v);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  char text[40];
  const auto end = std::to_chars(text, text + sizeof text, v, plain ? std::chars_format::fixed : std::chars_format::scientific).ptr;
  return std::string(text, end);
}

// A float shows that it is no int.
std::string repr(double v) {
  const std::string text = number(v);
  return text.find_first_not_of("-0123456789") == std::string::npos ? text + ".0" : text;
}

std::string joined(const std::vector<Value>& items) {
  std::string text;
  for (const Value& item : items) text += (text.empty() ? "" : ", ") + to_string(item);
  return text;
}

std::string sequence(const Value::Sequence& v) {
  switch (v.kind) {
    case Value::SequenceKind::list: return "[" + joined(v.items) + "]";
    case Value::SequenceKind::tuple: return "(" + joined(v.items) + (v.items.size() == 1 ? ",)" : ")");
    case Value::SequenceKind::set: return "{" + joined(v.items) + "}";
    case Value::SequenceKind::frozenset: return "frozenset({" + joined(v.items) + "})";
  }
  return {};
}

std::string mapping(const Value::Mapping& v) {
  std::string text;
  for (const auto& [key, item] : v.items) text += (text.empty() ? "" : ", ") + to_string(key) + ": " + to_string(item);
  return "{" + text + "}";
}

}  // namespace

bool Value::Mapping::operator==(const Mapping& other) const { return items == other.items && ordered == other.ordered; }

bool Value::operator==(const Value& other) const {
  if (const auto* a = as<double>()) {
    const auto* b = other.as<double>();
    return b && same_bits(*a, *b);
  }
  if (const auto* a = as<Complex>()) {
    const auto* b = other.as<Complex>();
    return b && same_bits(a->re, b->re) && same_bits(a->im, b->im);
  }
  return is == other.is;
}

std::string to_string(const Value& value) {
  return std::visit(
      Overloaded{
          [](const Value::None&) -> std::string { return "None"; },
          [](bool v) -> std::string { return v ? "True" : "False"; },
          [](int64_t v) { return std::to_string(v); },
          [](const Value::BigInt& v) { return v.decimal; },
          [](double v) { return repr(v); },
          [](const std::string& v) { return "'" + v + "'"; },
          [](const Value::ByteString& v) { return "bytes (" + std::to_string(v.data.size()) + ")"; },
          [](const Value::Complex& v) { return number(v.re) + (std::signbit(v.im) && !std::isnan(v.im) ? "" : "+") + number(v.im) + "j"; },
          [](const Value::Sequence& v) { return sequence(v); },
          [](const Value::Mapping& v) { return mapping(v); },
          [](const Value::TorchDType& v) { return "torch." + v.name; },
          [](const Value::TorchSize& v) { return "torch.Size(" + to_string(std::span<const int64_t>(v.sizes)) + ")"; },
          [](const Value::TorchDevice& v) { return "device('" + v.name + "')"; },
          [](const Value::Tensor& v) {
            return "tensor " + std::string(name(v.dtype)) + " " + to_string(std::span<const int64_t>(v.sizes));
          },
          [](const Value::Opaque& v) { return "opaque <" + v.global + ">"; },
      },
      value.is);
}

}  // namespace tessera
