#include "tessera/base/checked.h"
#include "tessera/base/digest.h"
#include "tessera/checkpoint/publish.h"
#include "tessera/exchange/target.h"
#include "tessera/format/dcp.h"
#include "tessera/format/item.h"

namespace tessera {
namespace {

// The rows that rank `rank` of `ranks` has, as torch.chunk cuts them. What has no rows to spare is whole on every rank.
Box rows_of(const Sizes& sizes, int rank, int ranks) {
  if (sizes.empty() || sizes[0] < 2 || ranks == 1 || volume(sizes) == 0) return whole(sizes);
  const int64_t each = (sizes[0] + ranks - 1) / ranks;
  Box box = whole(sizes);
  box.offsets[0] = std::min(sizes[0], each * rank);
  box.sizes[0] = std::min(each, sizes[0] - box.offsets[0]);
  return box;
}

// The archive of an object, as it was where we do not decode it.
Bytes archive_of(const Selection& selection, const SelectedObject& object) {
  const Value value = selection.object(object);
  const auto* opaque = value.as<Value::Opaque>();
  if (opaque && opaque->archive.empty()) {
    throw Error({.code = Code::unsupported,
                 .what = "'" + object.key + "' is a '" + opaque->global + "', which cannot be taken out of its file",
                 .hint = "leave it out with --exclude"});
  }
  return format::write_object_item(value);
}

class SelectionShards final : public ShardSource {
 public:
  SelectionShards(Selection& selection, int ranks) : selection_(selection), ranks_(ranks) {
    for (const SelectedTensor& tensor : selection.tensors()) tensors_[tensor.key] = &tensor;
    for (const SelectedObject& object : selection.objects()) objects_[object.key] = &object;
  }
  void set_rank(int rank) { rank_ = rank; }

  // What each of the ranks holds is its own, so that an item is always all of it.
  Tensor tensor(const WriteItem& item) const override {
    const SelectedTensor& tensor = *tensors_.at(item.key);
    return {tensor.dtype, rows_of(tensor.entry->sizes, rank_, ranks_).sizes};
  }
  void read(const WriteItem& item, const std::function<void(std::span<const std::byte>)>& take) override {
    const SelectedTensor& tensor = *tensors_.at(item.key);
    selection_.read(tensor, rows_of(tensor.entry->sizes, rank_, ranks_), take);
  }
  Bytes object(const std::string& key) override { return archive_of(selection_, *objects_.at(key)); }

 private:
  Selection& selection_;
  const int ranks_;
  int rank_ = 0;
  std::map<std::string, const SelectedTensor*> tensors_;
  std::map<std::string, const SelectedObject*> objects_;
};

// What the ranks of a job that held this state would tell their leader.
std::vector<Description> descriptions_of(const Selection& selection, int ranks) {
  std::vector<Description> all(static_cast<size_t>(ranks));
  for (const SelectedTensor& tensor : selection.tensors()) {
    for (int rank = 0; rank < ranks; ++rank) {
      TensorPart part{tensor.dtype, tensor.entry->sizes, {rows_of(tensor.entry->sizes, rank, ranks)}};
      all[static_cast<size_t>(rank)][tensor.key] = {tensor.path, std::move(part)};
    }
  }
  for (const SelectedObject& object : selection.objects()) {
    const Bytes archive = archive_of(selection, object);
    all[0][object.key] = {object.path, ObjectPart{static_cast<int64_t>(archive.size()), digest(archive)}};
  }
  return all;
}

}  // namespace

void write_dcp(Selection& selection, Storage& storage, const Path& target, const ConvertOptions& options) {
  refuse_taken(storage, target, options.replace);
  const SavePlan plan = plan_save(descriptions_of(selection, options.ranks), random_id());
  const Path staging = storage.stage(target, plan.manifest.save_id);
  try {
    SelectionShards shards(selection, options.ranks);
    std::vector<Proof> proofs;
    for (int rank = 0; rank < options.ranks; ++rank) {
      shards.set_rank(rank);
      proofs.push_back(write_shards(plan.ranks[static_cast<size_t>(rank)], shards, storage, staging));
    }
    storage.sync(staging);
    publish(plan, proofs, {}, storage, staging, target, options.replace);
  } catch (...) {
    capture([&] { storage.remove(staging); });  // the first failure is the one to tell
    throw;
  }
}

}  // namespace tessera
