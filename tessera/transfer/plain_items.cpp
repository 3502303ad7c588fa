// The items of formats whose headers were read whole: safetensors and torch.save files.
#include "tessera/base/checked.h"
#include "tessera/layout/view.h"
#include "tessera/transfer/about.h"
#include "tessera/transfer/items.h"
#include "tessera/transfer/read_box.h"

namespace tessera {
namespace {

class RawItems final : public Items {
 public:
  RawItems(std::shared_ptr<const Storage> storage, Path directory) : files_(std::move(storage), std::move(directory)) {}

  OpenItem tensor(const std::string& key, const TensorEntry& entry, const Chunk& chunk) const override {
    return about(key, [&] {
      const auto file = files_.file(chunk.at.file);
      const PartSource inside(*file, chunk.at.offset_bytes, chunk.at.length_bytes);  // throws where it is not
      return OpenItem{
          .file = file,
          .begin_bytes = chunk.at.offset_bytes,
          .length_bytes = chunk.at.length_bytes,
          .tensor = {
              .dtype = entry.dtype, .sizes = chunk.box.sizes, .strides = row_major(chunk.box.sizes), .data_bytes = chunk.at.length_bytes}};
    });
  }
  Value object(const std::string& key, const ObjectEntry&) const override {
    throw Error({.code = Code::not_found, .what = "no object '" + key + "'"});
  }

 private:
  const OpenFiles files_;
};

class TorchItems final : public Items {
 public:
  TorchItems(std::shared_ptr<const ByteSource> file, format::TorchFile content) : file_(std::move(file)), content_(std::move(content)) {}

  OpenItem tensor(const std::string& key, const TensorEntry&, const Chunk&) const override {
    return {.file = file_,
            .begin_bytes = 0,
            .length_bytes = file_->size_bytes(),
            .tensor = content_.tensors.at(std::get<size_t>(content_.leaves.at(key).is))};
  }
  Value object(const std::string& key, const ObjectEntry&) const override {
    return about(key, [&] {
      Value value = std::get<Value>(content_.leaves.at(key).is);
      int64_t left = room * file_->size_bytes();
      fill(value, left);
      return value;
    });
  }

 private:
  // Tensors that share a storage are each read. Past this many times the file, that is an attack.
  static constexpr int64_t room = 4;

  // Reads the tensors inside an object.
  void fill(Value& value, int64_t& left) const {
    if (auto* sequence = std::get_if<Value::Sequence>(&value.is)) {
      for (Value& item : sequence->items) fill(item, left);
    } else if (auto* mapping = std::get_if<Value::Mapping>(&value.is)) {
      for (auto& [name, item] : mapping->items) fill(item, left);
    } else if (auto* tensor = std::get_if<Value::Tensor>(&value.is); tensor && tensor->place >= 0) {
      const int64_t bytes = checked_multiply(checked_volume(tensor->sizes), element_bytes(tensor->dtype));
      if (bytes > left) throw Error({.code = Code::limit, .what = "tensors of many times the file's size", .file = file_->file()});
      left -= bytes;
      tensor->data.resize(static_cast<size_t>(bytes));
      read_box(*file_, content_.tensors.at(static_cast<size_t>(tensor->place)), whole(tensor->sizes),
               dense_view(tensor->data.data(), tensor->dtype, tensor->sizes));
      tensor->place = -1;
    }
  }

  const std::shared_ptr<const ByteSource> file_;
  const format::TorchFile content_;
};

}  // namespace

std::shared_ptr<const Items> raw_items(std::shared_ptr<const Storage> storage, Path directory) {
  return std::make_shared<RawItems>(std::move(storage), std::move(directory));
}

std::shared_ptr<const Items> torch_items(std::shared_ptr<const ByteSource> file, format::TorchFile content) {
  return std::make_shared<TorchItems>(std::move(file), std::move(content));
}

}  // namespace tessera
