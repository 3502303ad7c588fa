#include "tessera/checkpoint/checkpoint.h"

#include "tessera/base/checked.h"
#include "tessera/checkpoint/place.h"
#include "tessera/checkpoint/rename.h"

namespace tessera {
namespace {

template <class T>
const T& entry_of(const Manifest& manifest, const std::string& key, const char* kind) {
  const auto found = manifest.entries.find(key);
  const T* entry = found == manifest.entries.end() ? nullptr : std::get_if<T>(&found->second.is);
  if (!entry) throw Error({.code = Code::not_found, .what = "the checkpoint has no " + std::string(kind) + " '" + key + "'"});
  return *entry;
}

// A view that owns its memory. The sizes are those of a file: memory that is not there is an Error, not the end.
View allocate(DType dtype, const Sizes& sizes) {
  const int64_t bytes = checked_multiply(checked_volume(sizes), element_bytes(dtype));
  const auto memory = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(bytes));
  return dense_view(memory->data(), dtype, sizes, memory);
}

}  // namespace

Checkpoint Checkpoint::open(const std::string& path, const OpenOptions& options) {
  const Place place = place_of(path);
  return open(std::make_shared<LocalStorage>(place.parent), place.name, options);
}

Checkpoint Checkpoint::open(std::shared_ptr<const Storage> storage, const Path& path, const OpenOptions& options) {
  return Checkpoint(open_at(std::move(storage), path, options));
}

std::vector<std::string> Checkpoint::keys(const KeyFilter& filter) const {
  std::vector<std::string> keys;
  for (const auto& [key, entry] : manifest().entries) {
    if (filter.takes(key)) keys.push_back(key);
  }
  return keys;
}

const TensorEntry& Checkpoint::tensor(const std::string& key) const { return entry_of<TensorEntry>(manifest(), key, "tensor"); }

std::vector<std::string> Checkpoint::objects() const {
  std::vector<std::string> keys;
  for (const auto& [key, entry] : manifest().entries) {
    if (std::holds_alternative<ObjectEntry>(entry.is)) keys.push_back(key);
  }
  return keys;
}

void Checkpoint::read(const std::string& key, const Box& box, const View& into) const { reader(key).read(box, into); }

TensorReader Checkpoint::reader(const std::string& key) const { return TensorReader(opened_.items, key, tensor(key)); }

Value Checkpoint::object(const std::string& key) const {
  return opened_.items->object(key, entry_of<ObjectEntry>(manifest(), key, "object"));
}

StateDict Checkpoint::load(const KeyFilter& filter, const std::vector<CastRule>& casts) const {
  StateDict state;
  for (const std::string& key : keys(filter)) {
    const Entry& entry = manifest().entries.at(key);
    if (const auto* held = std::get_if<TensorEntry>(&entry.is)) {
      const View view = allocate(wanted_dtype(casts, key, held->dtype), held->sizes);
      read(key, whole(held->sizes), view);
      state.add(key, replicated(view), entry.path);
    } else {
      state.add(key, object(key), entry.path);
    }
  }
  return state;
}

Checkpoint Checkpoint::renamed(const std::vector<Rename>& rules) const {
  Opened opened = opened_;
  rename_keys(opened, rules);
  return Checkpoint(std::move(opened));
}

}  // namespace tessera
