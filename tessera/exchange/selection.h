// tessera/exchange/selection.h: what of a checkpoint is converted, and into which dtypes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "tessera/checkpoint/checkpoint.h"

namespace tessera {

struct SelectedTensor {
  std::string key;
  KeyPath path;
  const TensorEntry* entry = nullptr;
  DType dtype = DType::float32;  // as it will be written
  int64_t bytes() const { return volume(entry->sizes) * element_bytes(dtype); }
};
struct SelectedObject {
  std::string key;
  KeyPath path;
};

class Selection {
 public:
  // Borrows the checkpoint. Error(not_found) where the filter takes nothing.
  Selection(const Checkpoint& from, const KeyFilter& filter, const std::vector<CastRule>& casts, bool tensors_only = false);

  const std::vector<SelectedTensor>& tensors() const { return tensors_; }
  const std::vector<SelectedObject>& objects() const { return objects_; }
  // Told of every byte that was read, in the target's dtype.
  void on_progress(std::function<void(int64_t)> progress) { progress_ = std::move(progress); }
  // The bytes that one piece may have.
  void set_piece_bytes(int64_t bytes) { piece_bytes_ = bytes; }

  using Take = std::function<void(std::span<const std::byte>)>;
  // Gives a box of the tensor to `take`, in the target's dtype and in row-major order, in pieces.
  void read(const SelectedTensor& tensor, const Box& box, const Take& take);
  Value object(const SelectedObject& object) const { return from_.object(object.key); }
  int64_t total_bytes() const;
  // Of all that was read so far.
  ReadCount count() const;

 private:
  const Checkpoint& from_;
  std::vector<SelectedTensor> tensors_;
  std::vector<SelectedObject> objects_;
  std::function<void(int64_t)> progress_;
  int64_t piece_bytes_ = int64_t{16} << 20;
  std::unique_ptr<TensorReader> reader_;  // of the tensor that is being read
  const SelectedTensor* reading_ = nullptr;
  ReadCount done_;
  std::vector<std::byte> room_;
};

}  // namespace tessera
