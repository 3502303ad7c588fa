#include "tessera/format/archive.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "tessera/base/checked.h"
#include "tessera/layout/view.h"

namespace tessera::format {
namespace {

constexpr int64_t edge_bytes = 2048;
constexpr int64_t small_record_bytes = 256;  // version, byteorder
constexpr size_t most_dims = 64;

using Kind = Node::Kind;

// torch's typed storages; the other dtypes are bytes in an UntypedStorage, and the call (v3) names them.
struct TypedStorage {
  const char* global;
  DType dtype;
};
constexpr std::array typed_storages = {
    TypedStorage{"torch DoubleStorage", DType::float64},
    TypedStorage{"torch FloatStorage", DType::float32},
    TypedStorage{"torch HalfStorage", DType::float16},
    TypedStorage{"torch BFloat16Storage", DType::bfloat16},
    TypedStorage{"torch LongStorage", DType::int64},
    TypedStorage{"torch IntStorage", DType::int32},
    TypedStorage{"torch ShortStorage", DType::int16},
    TypedStorage{"torch CharStorage", DType::int8},
    TypedStorage{"torch ByteStorage", DType::uint8},
    TypedStorage{"torch BoolStorage", DType::boolean},
    TypedStorage{"torch ComplexFloatStorage", DType::complex64},
    TypedStorage{"torch ComplexDoubleStorage", DType::complex128},
};
constexpr const char* untyped_storage = "torch.storage UntypedStorage";
constexpr const char* rebuild_v2 = "torch._utils _rebuild_tensor_v2";
constexpr const char* rebuild_v3 = "torch._utils _rebuild_tensor_v3";
constexpr const char* ordered_dict = "collections OrderedDict";

const TypedStorage* storage_of(DType dtype) {
  const auto found = std::ranges::find(typed_storages, dtype, &TypedStorage::dtype);
  return found == typed_storages.end() ? nullptr : &*found;
}

}  // namespace

EdgeCache::EdgeCache(const ByteSource& source) : source_(source) {
  const int64_t size = source.size_bytes();
  head_.resize(static_cast<size_t>(std::min(size, edge_bytes)));
  source.read(0, head_);
  // A small item is all head.
  tail_.resize(static_cast<size_t>(std::min(size - static_cast<int64_t>(head_.size()), edge_bytes)));
  source.read(size - static_cast<int64_t>(tail_.size()), tail_);
}

void EdgeCache::read(int64_t offset_bytes, std::span<std::byte> into) const {
  const int64_t tail_at = size_bytes() - static_cast<int64_t>(tail_.size());
  if (inside(offset_bytes, into.size(), static_cast<int64_t>(head_.size()))) {
    std::copy_n(head_.begin() + offset_bytes, into.size(), into.begin());
  } else if (offset_bytes >= tail_at && inside(offset_bytes - tail_at, into.size(), static_cast<int64_t>(tail_.size()))) {
    std::copy_n(tail_.begin() + (offset_bytes - tail_at), into.size(), into.begin());
  } else {
    source_.read(offset_bytes, into);
  }
}

ArchiveReader::ArchiveReader(const ByteSource& source) : source_(source), zip_(source_) {
  if (zip_.records().empty()) throw corrupt_at(source, 0, "an empty archive");
  const std::string& first = zip_.records().front().name;
  const size_t slash = first.find('/');
  if (slash == std::string::npos) throw corrupt_at(source, 0, "a record outside the archive's folder");
  prefix_ = first.substr(0, slash + 1);
  if (!std::ranges::all_of(zip_.records(), [&](const ZipRecord& record) { return record.name.starts_with(prefix_); })) {
    throw corrupt_at(source, 0, "a record outside the archive's folder");
  }
  if (zip_.find(prefix_ + "constants.pkl"))
    throw Error({.code = Code::unsupported, .what = "a TorchScript archive", .file = source.file(), .offset_bytes = source.origin_bytes()});
  const ZipRecord* version = zip_.find(prefix_ + "version");
  if (!version) version = zip_.find(prefix_ + ".data/version");
  if (!version) throw corrupt_at(source, 0, "an archive without a version");
  const Bytes text = zip_.read(*version, small_record_bytes);
  int number = 0;
  const auto parsed = std::from_chars(as_text(text).data(), as_text(text).data() + text.size(), number);
  const auto rest = as_text(text).substr(static_cast<size_t>(parsed.ptr - as_text(text).data()));
  if (parsed.ec != std::errc() || (rest != "" && rest != "\n")) throw corrupt_at(source, 0, "an archive whose version is no number");
  if (number < 1 || number > 10)
    throw Error({.code = Code::unsupported,
                 .what = "an archive of version " + std::to_string(number),
                 .file = source.file(),
                 .offset_bytes = source.origin_bytes()});
  if (const ZipRecord* order = zip_.find(prefix_ + "byteorder")) {
    const Bytes word = zip_.read(*order, small_record_bytes);
    big_endian_ = as_text(word) == "big";
    if (!big_endian_ && as_text(word) != "little") throw corrupt_at(source, 0, "an unknown byte order");
  }
}

Pickle ArchiveReader::pickle(int64_t most_bytes) const {
  const ZipRecord* record = zip_.find(prefix_ + "data.pkl");
  if (!record) throw corrupt_at(source_, 0, "an archive without data.pkl");
  return Pickle(zip_.read(*record, most_bytes), {.persistent_ids = true, .cycles = true}, source_.file(),
                source_.origin_bytes() + zip_.data_offset(*record));
}

void ArchiveReader::check() const {
  for (const ZipRecord& record : zip_.records()) zip_.check(record);
}

StoragePlace ArchiveReader::storage(const std::string& key) const {
  const ZipRecord* record = zip_.find(prefix_ + "data/" + key);
  if (!record) throw corrupt_at(source_, 0, "a tensor whose storage is not in the archive");
  return {zip_.data_offset(*record), record->size_bytes, record->crc};
}

std::optional<Sizes> sizes_of(const Node& node) {
  const Node* tuple = &node;
  if (is_call(node, "torch Size") && node.items().size() == 1) tuple = node.items()[0];
  const bool all_ints =
      tuple->kind == Kind::tuple && std::ranges::all_of(tuple->items(), [](const Node* item) { return item->kind == Kind::integer; });
  if (!all_ints) return std::nullopt;
  Sizes sizes;
  sizes.reserve(tuple->items().size());
  for (const Node* item : tuple->items()) sizes.push_back(item->integer());
  return sizes;
}

bool is_call(const Node& node, std::string_view global) {
  return node.kind == Kind::call && node.callee().is_global(global) && node.set().empty() && !node.state() && !node.altered();
}

bool is_tensor(const Node& node) { return is_call(node, rebuild_v2) || is_call(node, rebuild_v3); }

std::string made_by(const Node& node) {
  const Node* at = &node;
  while (at->is_made()) at = &at->callee();
  return at->kind == Kind::global ? at->global() : "a value made in an unknown way";
}

StorageId storage_id(const Node& node, const ByteSource& source) {
  const auto fail = [&](const char* what) { return corrupt_at(source, 0, what); };
  if (node.kind != Kind::persistent || node.items()[0]->kind != Kind::tuple) throw fail("a tensor without a storage");
  const auto fields = node.items()[0]->items();
  // The legacy form has a sixth field: None, or the part of another storage that this one is.
  if (fields.size() != 5 && !(fields.size() == 6 && fields[5]->kind == Kind::none)) throw fail("a tensor without a storage of its own");
  if (fields[0]->kind != Kind::text || fields[0]->text() != "storage" || fields[1]->kind != Kind::global || fields[2]->kind != Kind::text ||
      fields[3]->kind != Kind::text || fields[4]->kind != Kind::integer) {
    throw fail("a storage that is not described as torch does");
  }
  StorageId id{std::nullopt, std::string(fields[2]->text()), fields[4]->integer()};
  if (fields[1]->is_global(untyped_storage)) return id;
  const auto typed =
      std::ranges::find_if(typed_storages, [&](const TypedStorage& storage) { return fields[1]->is_global(storage.global); });
  if (typed == typed_storages.end())
    throw Error({.code = Code::unsupported,
                 .what = "the storage class '" + fields[1]->global() + "'",
                 .file = source.file(),
                 .offset_bytes = source.origin_bytes()});
  id.dtype = typed->dtype;
  return id;
}

namespace {

// {"conj": True, "neg": True}: bits that stock keeps instead of computing. Anything else would change the values too.
void read_bits(const Node& metadata, TensorItem& tensor, const ByteSource& source) {
  const auto fail = [&](const char* what) { return corrupt_at(source, 0, what); };
  if (metadata.kind != Kind::dict) throw fail("tensor metadata that is no dict");
  for (size_t i = 0; i + 1 < metadata.items().size(); i += 2) {
    const Node& name = *metadata.items()[i];
    const Node& bit = *metadata.items()[i + 1];
    if (name.kind != Kind::text || bit.kind != Kind::boolean) throw fail("tensor metadata that is not torch's");
    if (name.text() == "conj") tensor.conjugate = bit.boolean();
    else if (name.text() == "neg") tensor.negative = bit.boolean();
    else
      throw Error({.code = Code::unsupported,
                   .what = "the tensor metadata '" + std::string(name.text()) + "'",
                   .file = source.file(),
                   .offset_bytes = source.origin_bytes()});
  }
  const bool complex = tensor.dtype == DType::complex32 || tensor.dtype == DType::complex64 || tensor.dtype == DType::complex128;
  if (tensor.conjugate && !complex) throw fail("a conjugate of what is not complex");
}

// Every element lies inside the storage of `numel` elements.
void check_strides(const TensorItem& tensor, int64_t storage_offset, int64_t numel, const ByteSource& source) {
  const auto fail = [&](const char* what) { return corrupt_at(source, 0, what); };
  if (tensor.sizes.size() != tensor.strides.size()) throw fail("a tensor with not one stride for each dimension");
  if (tensor.sizes.size() > most_dims) throw fail("a tensor of more than 64 dimensions");
  if (storage_offset < 0) throw fail("a negative storage offset");
  if (std::ranges::any_of(tensor.strides, [](int64_t stride) { return stride < 0; })) throw fail("a negative stride");
  const int64_t elements = checked_volume(tensor.sizes);
  checked_multiply(elements, element_bytes(tensor.dtype));  // strides of 0 make much of little; it must still be a number of bytes
  if (elements == 0) return;
  int64_t last = storage_offset;
  for (size_t d = 0; d < tensor.sizes.size(); ++d) last = checked_add(last, checked_multiply(tensor.sizes[d] - 1, tensor.strides[d]));
  if (last >= numel) throw fail("a tensor that reaches past its storage");
}

}  // namespace

TensorItem tensor_of(const Node& node, const Storages& storages) {
  const ByteSource& source = storages.source();
  const auto fail = [&](const char* what) { return corrupt_at(source, 0, what); };
  if (!is_tensor(node)) {
    const std::string what = node.is_made() ? "a tensor built by '" + made_by(node) + "'" : "an item that is no tensor";
    throw Error({.code = Code::unsupported, .what = what, .file = source.file(), .offset_bytes = source.origin_bytes()});
  }
  const bool v3 = node.callee().is_global(rebuild_v3);
  const auto arguments = node.items();
  const size_t fixed = v3 ? 7 : 6;
  if (arguments.size() != fixed && arguments.size() != fixed + 1) throw fail("a tensor of too many or too few arguments");
  if (arguments[1]->kind != Kind::integer || arguments[4]->kind != Kind::boolean) throw fail("a tensor whose arguments are not torch's");
  const Node& hooks = *arguments[5];
  if (!is_call(hooks, ordered_dict) || !hooks.items().empty()) throw fail("a tensor with hooks");
  const StorageId id = storage_id(*arguments[0], source);
  TensorItem tensor;
  if (v3) {
    if (arguments[6]->module() != "torch") throw fail("a tensor whose dtype is no dtype");
    const auto dtype = dtype_named(arguments[6]->name());
    if (!dtype)
      throw Error({.code = Code::unsupported,
                   .what = "the dtype '" + arguments[6]->global() + "'",
                   .file = source.file(),
                   .offset_bytes = source.origin_bytes()});
    tensor.dtype = *dtype;
    if (id.dtype) throw fail("a storage class where bytes were expected");
  } else {
    if (!id.dtype) throw fail("bytes where a storage class was expected");
    tensor.dtype = *id.dtype;
  }
  auto sizes = sizes_of(*arguments[2]);
  auto strides = sizes_of(*arguments[3]);
  if (!sizes || !strides) throw fail("a shape that is no tuple of ints");
  tensor.sizes = std::move(*sizes);
  tensor.strides = std::move(*strides);
  if (arguments.size() > fixed) read_bits(*arguments[fixed], tensor, source);
  const int64_t each = element_bytes(tensor.dtype);
  if (id.numel < 0) throw fail("a storage of negative size");
  if (v3 && id.numel % each) throw fail("a storage that ends within an element");
  const int64_t numel = v3 ? id.numel / each : id.numel;
  const int64_t storage_offset = arguments[1]->integer();
  check_strides(tensor, storage_offset, numel, source);
  const StoragePlace place = storages.storage(id.key);
  if (place.size_bytes != checked_multiply(numel, each)) throw fail("a storage that is not as long as its tensor says");
  tensor.data_offset_bytes = place.offset_bytes;
  tensor.data_bytes = place.size_bytes;
  tensor.data_crc = place.crc;
  // An empty tensor may point anywhere; nothing of it is read.
  tensor.first_bytes = tensor.data_offset_bytes + (volume(tensor.sizes) == 0 ? 0 : storage_offset * each);
  tensor.big_endian = storages.big_endian() && swap_bytes(tensor.dtype) > 1;
  return tensor;
}

void write_tensor(PickleWriter& out, DType dtype, std::span<const int64_t> sizes, const std::string& key) {
  const TypedStorage* typed = storage_of(dtype);
  out.global(typed ? rebuild_v2 : rebuild_v3);
  out.mark();
  out.mark();
  out.text("storage");
  out.global(typed ? typed->global : untyped_storage);
  out.text(key);
  out.text("cpu");
  out.integer(typed ? volume(sizes) : volume(sizes) * element_bytes(dtype));
  out.tuple();
  out.persistent();
  out.integer(0);
  out.integers(sizes);
  out.integers(row_major(sizes));
  out.boolean(false);
  out.global(ordered_dict);
  out.empty_tuple();
  out.reduce();
  if (!typed) out.global("torch " + std::string(name(dtype)));
  out.tuple();
  out.reduce();
}

}  // namespace tessera::format
