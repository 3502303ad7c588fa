#include "tessera/c/tessera.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "tessera/base/checked.h"
#include "tessera/checkpoint/checkpoint.h"

struct tessera_checkpoint {
  tessera::Checkpoint checkpoint;
  std::vector<std::string> keys;
};

namespace {

using tessera::Code;
using tessera::Error;
using tessera::Sizes;

static_assert(TESSERA_INVALID_ARGUMENT == static_cast<int>(Code::invalid_argument) + 1);
static_assert(TESSERA_CORRUPT == static_cast<int>(Code::corrupt) + 1);
static_assert(TESSERA_INTERNAL == static_cast<int>(Code::internal) + 1);
static_assert(TESSERA_FLOAT64 == static_cast<int>(tessera::DType::float64));
static_assert(TESSERA_FLOAT4_E2M1FN_X2 == static_cast<int>(tessera::DType::float4_e2m1fn_x2));

template <size_t N>
void put(char (&into)[N], const std::string& text) {
  const size_t count = std::min(text.size(), N - 1);
  std::memcpy(into, text.data(), count);
  into[count] = 0;
}

// Runs `work`; what it throws becomes a value.
template <class Work>
int guarded(tessera_error* error, Work work) {
  const auto outcome = tessera::capture(work);
  if (error) *error = {};
  if (outcome) return TESSERA_OK;
  const tessera::Fault& fault = outcome.fault;
  const int code = static_cast<int>(fault.code) + 1;
  if (error) {
    error->code = code;
    error->offset_bytes = fault.offset_bytes;
    put(error->file, fault.file);
    put(error->message, tessera::describe(fault));
    put(error->hint, fault.hint);
  }
  return code;
}

void require(bool holds, const char* what) {
  if (!holds) throw Error({.code = Code::invalid_argument, .what = what});
}

const std::string& key_at(const tessera_checkpoint* checkpoint, size_t index) {
  require(checkpoint != nullptr, "no checkpoint");
  require(index < checkpoint->keys.size(), "an index past the last key");
  return checkpoint->keys[index];
}

// Bytes from the first to the last element of a strided box.
int64_t extent(const Sizes& sizes, const Sizes& strides, int64_t each) {
  if (tessera::volume(sizes) == 0) return 0;
  int64_t last = 0;
  for (size_t d = 0; d < sizes.size(); ++d) {
    require(strides[d] >= 0, "a negative stride");
    last = tessera::checked_add(last, tessera::checked_multiply(sizes[d] - 1, strides[d], Code::invalid_argument), Code::invalid_argument);
  }
  return tessera::checked_multiply(tessera::checked_add(last, 1, Code::invalid_argument), each, Code::invalid_argument);
}

}  // namespace

const char* tessera_version(void) { return TESSERA_VERSION; }

int tessera_open(const char* path, tessera_checkpoint** checkpoint, tessera_error* error) {
  if (checkpoint) *checkpoint = nullptr;
  return guarded(error, [&] {
    require(path && checkpoint, "a null path or place for the checkpoint");
    auto opened = std::make_unique<tessera_checkpoint>(tessera_checkpoint{tessera::Checkpoint::open(path), {}});
    opened->keys = opened->checkpoint.keys();
    *checkpoint = opened.release();
  });
}

void tessera_close(tessera_checkpoint* checkpoint) { delete checkpoint; }

size_t tessera_count(const tessera_checkpoint* checkpoint) { return checkpoint ? checkpoint->keys.size() : 0; }

const char* tessera_key(const tessera_checkpoint* checkpoint, size_t index, size_t* length_bytes) {
  const bool there = checkpoint && index < checkpoint->keys.size();
  if (length_bytes) *length_bytes = there ? checkpoint->keys[index].size() : 0;
  return there ? checkpoint->keys[index].c_str() : nullptr;
}

size_t tessera_find(const tessera_checkpoint* checkpoint, const char* key, size_t length_bytes) {
  if (!checkpoint || !key) return tessera_count(checkpoint);
  const auto& keys = checkpoint->keys;
  const std::string_view wanted(key, length_bytes);
  const auto found = std::lower_bound(keys.begin(), keys.end(), wanted);
  return found != keys.end() && *found == wanted ? static_cast<size_t>(found - keys.begin()) : keys.size();
}

int tessera_is_tensor(const tessera_checkpoint* checkpoint, size_t index) {
  if (!checkpoint || index >= checkpoint->keys.size()) return 0;
  const auto& entry = checkpoint->checkpoint.manifest().entries.at(checkpoint->keys[index]);
  return std::holds_alternative<tessera::TensorEntry>(entry.is) ? 1 : 0;
}

int tessera_describe(const tessera_checkpoint* checkpoint, size_t index, tessera_tensor* tensor, tessera_error* error) {
  return guarded(error, [&] {
    const tessera::TensorEntry& entry = checkpoint ? checkpoint->checkpoint.tensor(key_at(checkpoint, index))
                                                   : throw Error({.code = Code::invalid_argument, .what = "no checkpoint"});
    require(tensor != nullptr, "no place for the description");
    *tensor = {};
    tensor->dtype = static_cast<int>(entry.dtype);
    tensor->dtype_name = tessera::name(entry.dtype).data();
    tensor->element_bytes = tessera::element_bytes(entry.dtype);
    require(entry.sizes.size() <= TESSERA_MOST_DIMS, "more than 64 dimensions");
    tensor->dims = static_cast<int>(entry.sizes.size());
    std::copy(entry.sizes.begin(), entry.sizes.end(), tensor->sizes);
  });
}

int tessera_read(const tessera_checkpoint* checkpoint, size_t index, const int64_t* offsets, const int64_t* sizes, const int64_t* strides,
                 void* into, size_t into_bytes, tessera_error* error) {
  return guarded(error, [&] {
    const std::string& key = key_at(checkpoint, index);
    const tessera::TensorEntry& entry = checkpoint->checkpoint.tensor(key);
    const size_t dims = entry.sizes.size();
    require((offsets == nullptr) == (sizes == nullptr), "offsets without sizes, or sizes without offsets");
    tessera::Box box = tessera::whole(entry.sizes);
    if (offsets && sizes) box = {Sizes(offsets, offsets + dims), Sizes(sizes, sizes + dims)};
    require(tessera::fits(box, entry.sizes), "a box outside the tensor");
    const Sizes steps = strides ? Sizes(strides, strides + dims) : tessera::row_major(box.sizes);
    const int64_t needed = extent(box.sizes, steps, tessera::element_bytes(entry.dtype));
    require(needed == 0 || (into && static_cast<uint64_t>(needed) <= into_bytes), "not enough room for the box");
    checkpoint->checkpoint.read(key, box, {static_cast<std::byte*>(into), entry.dtype, box.sizes, steps, {}});
  });
}

int tessera_object_text(const tessera_checkpoint* checkpoint, size_t index, char* text, size_t text_bytes, tessera_error* error) {
  return guarded(error, [&] {
    const std::string& key = key_at(checkpoint, index);
    require(text && text_bytes > 0, "no room for the text");
    const std::string value = tessera::to_string(checkpoint->checkpoint.object(key));
    const size_t count = std::min(value.size(), text_bytes - 1);
    std::memcpy(text, value.data(), count);
    text[count] = 0;
  });
}
