#include <cstdio>

#include "tessera/exchange/target.h"
#include "tessera/format/safetensors.h"

namespace tessera {
namespace {

constexpr const char* index_file = "model.safetensors.index.json";

using Tensors = std::vector<const SelectedTensor*>;

void fill(FileWriter& file, Selection& selection, const Tensors& tensors) {
  std::map<std::string, const SelectedTensor*> by_key;
  std::vector<format::SafeTensor> laid_out;
  for (const SelectedTensor* tensor : tensors) {
    by_key[tensor->key] = tensor;
    laid_out.push_back({tensor->key, tensor->dtype, tensor->entry->sizes, 0, 0});
  }
  // As torch's tools write and expect it.
  file.write(0, format::lay_out_safetensors(laid_out, {{"format", "pt"}}));
  for (const format::SafeTensor& place : laid_out) {
    const SelectedTensor& tensor = *by_key.at(place.key);
    int64_t at = place.offset_bytes;
    selection.read(tensor, whole(tensor.entry->sizes), [&](std::span<const std::byte> bytes) {
      file.write(at, bytes);
      at += static_cast<int64_t>(bytes.size());
    });
  }
}

// Tensors by key, a new file where one more would make it too large.
std::vector<Tensors> files_of(const Selection& selection, int64_t file_bytes) {
  std::vector<Tensors> files(1);
  int64_t bytes = 0;
  for (const SelectedTensor& tensor : selection.tensors()) {
    if (!files.back().empty() && bytes + tensor.bytes() > file_bytes) {
      files.emplace_back();
      bytes = 0;
    }
    files.back().push_back(&tensor);
    bytes += tensor.bytes();
  }
  return files;
}

std::string file_name(size_t number, size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", number, count);
  return name;
}

}  // namespace

void write_safetensors(Selection& selection, Storage& storage, const Path& target, const ConvertOptions& options) {
  if (!selection.objects().empty()) {
    throw Error({.code = Code::unsupported,
                 .what = "safetensors cannot hold '" + selection.objects().front().key + "' and " +
                         std::to_string(selection.objects().size() - 1) + " more that are no tensors",
                 .hint = "leave them out with --tensors-only or --exclude"});
  }
  if (target.ends_with(".safetensors")) {
    Tensors all;
    for (const SelectedTensor& tensor : selection.tensors()) all.push_back(&tensor);
    return publish_file(storage, target, options.replace, [&](FileWriter& file) { fill(file, selection, all); });
  }
  const std::vector<Tensors> files = files_of(selection, options.file_bytes);
  const std::string last = files.size() == 1 ? file_name(1, 1) : index_file;
  publish_directory(storage, target, options.replace, last, [&](const Path& staging) {
    format::WeightMap map;
    for (size_t i = 0; i < files.size(); ++i) {
      const std::string name = file_name(i + 1, files.size());
      write_file(storage, staging + "/" + name, [&](FileWriter& file) { fill(file, selection, files[i]); });
      for (const SelectedTensor* tensor : files[i]) map[tensor->key] = name;
    }
    if (files.size() == 1) return;
    write_file(storage, staging + "/" + index_file,
               [&](FileWriter& file) { file.write(0, format::write_weight_map(map, selection.total_bytes())); });
  });
}

}  // namespace tessera
