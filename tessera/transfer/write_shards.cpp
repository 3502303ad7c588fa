#include "tessera/transfer/write_shards.h"

#include <algorithm>

#include "tessera/format/item.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

Error not_as_planned(const WriteItem& item, const std::string& file, int64_t at_bytes) {
  return Error(
      {.code = Code::internal, .what = "the item of '" + item.key + "' is not as long as planned", .file = file, .offset_bytes = at_bytes});
}

}  // namespace

ShardSource::Tensor StateShards::tensor(const WriteItem& item) const {
  const View& box = view(item);
  return {box.dtype, slice(whole(box.sizes), item.rows).sizes};
}

void StateShards::read(const WriteItem& item, const std::function<void(std::span<const std::byte>)>& take) {
  const View& box = view(item);
  if (item.rows == Rows{}) for_each_run(box, take);
  else for_each_run(part(box, slice(whole(box.sizes), item.rows)), take);
}

Bytes StateShards::object(const std::string& key) { return state_.objects.at(key); }

const View& StateShards::view(const WriteItem& item) const {
  const auto& [key, box, length, rows] = item;
  for (int tries = 0; near_ != state_.tensors.end() && near_->first != key && tries < 2; ++tries) ++near_;
  if (near_ == state_.tensors.end() || near_->first != key) near_ = state_.tensors.find(key);
  if (near_ == state_.tensors.end()) throw Error({.code = Code::internal, .what = "a plan for '" + key + "', which this rank has not"});
  return near_->second->shards.at(static_cast<size_t>(box)).view;
}

void lay_out(const RankWrites& writes, const ShardSource& source, FileLayout& layout) {
  layout.file = writes.file;
  layout.items.reserve(writes.items.size());
  for (const WriteItem& item : writes.items) {
    const int64_t begin = layout.file_bytes;
    if (item.box < 0) {
      layout.add_object(item.length_bytes);
    } else {
      const ShardSource::Tensor tensor = source.tensor(item);
      layout.add_tensor(tensor.dtype, tensor.sizes);
    }
    if (layout.file_bytes - begin != item.length_bytes) throw not_as_planned(item, writes.file, begin);
  }
}

void cut_shards(const RankWrites& writes, const FileLayout& layout, ShardSource& source, BlockCutter& out) {
  for (size_t i = 0; i < writes.items.size(); ++i) {
    const WriteItem& item = writes.items[i];
    const ItemPlace& place = layout.items[i];
    if (!place.frame) {
      out.put_copy(source.object(item.key));
    } else {
      out.put(place.frame->head);
      source.read(item, [&](std::span<const std::byte> run) { out.put(run); });
      out.put(place.frame->tail);
    }
    if (out.position() != place.end_bytes) throw not_as_planned(item, writes.file, place.begin_bytes);
  }
  out.finish();
}

ShardFile::ShardFile(const RankWrites& writes, ShardSource& source, Storage& storage, const Path& directory, const WriteWork& work)
    : writes_(writes), source_(source), throttle_(work.most_bytes_per_second) {
  lay_out(writes, source, layout_);
  const auto written = [progress = work.progress, total = writes.file_bytes](int64_t bytes) {
    if (progress) progress(bytes, total);
  };
  auto file = storage.create(below(directory, writes.file));
  mode_ = file->prepare(writes.file_bytes, work.mode) ? work.mode : WriteMode::buffered;
  blocks_.emplace(std::move(file), layout_,
                  BlockWork{.threads = work.threads, .written = written, .throttle = &throttle_, .begin_thread = work.begin_thread});
}

Proof ShardFile::close() {
  const int64_t length_bytes = blocks_->close();
  return {writes_.file, length_bytes, blocks_->digests(), digest(encode(writes_)), mode_};
}

Proof write_shards(const RankWrites& writes, ShardSource& source, Storage& storage, const Path& directory, const WriteWork& work) {
  if (writes.items.empty()) return {};
  SlabRing ring(slabs_for(work.threads), block_bytes);
  ShardFile file(writes, source, storage, directory, work);
  BlockCutter cutter(ring, true, [&](Block block) { file.blocks().take(std::move(block)); });
  file.cut(cutter);
  return file.close();
}

Proof write_shards(const RankWrites& writes, const Described& state, Storage& storage, const Path& directory, const WriteWork& work) {
  StateShards source(state);
  return write_shards(writes, source, storage, directory, work);
}

Bytes encode(const Proof& proof) {
  ByteWriter out;
  out.put_string(proof.file);
  out.put(proof.length_bytes);
  out.put_raw(proof.writes);
  out.put<uint64_t>(proof.blocks.size());
  for (const Digest& block : proof.blocks) out.put_raw(block);
  return out.take();
}

Proof decode_proof(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Proof proof;
  proof.file = in.get_string();
  proof.length_bytes = in.get<int64_t>();
  std::ranges::copy(in.get_raw(proof.writes.size()), proof.writes.begin());
  proof.blocks.resize(in.get_count(sizeof(Digest)));
  for (Digest& block : proof.blocks) std::ranges::copy(in.get_raw(sizeof(Digest)), block.begin());
  return proof;
}

}  // namespace tessera
