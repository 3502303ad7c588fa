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

ShardSource::Tensor StateShards::tensor(const std::string& key, int32_t box) const { return {view(key, box).dtype, view(key, box).sizes}; }

void StateShards::read(const std::string& key, int32_t box, const std::function<void(std::span<const std::byte>)>& take) {
  for_each_run(view(key, box), take);
}

Bytes StateShards::object(const std::string& key) { return state_.objects.at(key); }

const View& StateShards::view(const std::string& key, int32_t box) const {
  return state_.tensors.at(key)->shards.at(static_cast<size_t>(box)).view;
}

Proof write_shards(const RankWrites& writes, const Described& state, Storage& storage, const Path& directory, const Progress& progress) {
  StateShards source(state);
  return write_shards(writes, source, storage, directory, progress);
}

std::vector<ItemPlace> places_of(const RankWrites& writes, const ShardSource& source) {
  std::vector<ItemPlace> places;
  places.reserve(writes.items.size());
  int64_t at = 0;
  for (const WriteItem& item : writes.items) {
    ItemPlace place{
        .begin_bytes = at, .data_begin_bytes = at, .data_end_bytes = at + item.length_bytes, .end_bytes = at + item.length_bytes};
    if (item.box < 0) {
      place.is_object = true;
    } else {
      ShardSource::Tensor tensor = source.tensor(item.key, item.box);
      const format::ItemFrame frame = format::item_frame(tensor.dtype, tensor.sizes);
      if (frame.length_bytes != item.length_bytes) throw not_as_planned(item, writes.file, at);
      place.data_begin_bytes = at + frame.data_offset_bytes;
      place.data_end_bytes = place.data_begin_bytes + frame.data_bytes;
      place.dtype = tensor.dtype;
      place.sizes = std::move(tensor.sizes);
    }
    at += item.length_bytes;
    places.push_back(std::move(place));
  }
  return places;
}

void cut_shards(const RankWrites& writes, ShardSource& source, BlockCutter& out) {
  for (const WriteItem& item : writes.items) {
    const int64_t begin = out.position();
    if (item.box < 0) {
      out.put(source.object(item.key));
    } else {
      const ShardSource::Tensor tensor = source.tensor(item.key, item.box);
      out.put(format::item_head(tensor.dtype, tensor.sizes, 0));
      source.read(item.key, item.box, [&](std::span<const std::byte> run) { out.put(run); });
      out.put(format::item_tail(tensor.dtype, tensor.sizes, 0));
    }
    if (out.position() - begin != item.length_bytes) throw not_as_planned(item, writes.file, begin);
  }
  out.finish();
}

Proof write_shards(const RankWrites& writes, ShardSource& source, Storage& storage, const Path& directory, const Progress& progress) {
  if (writes.items.empty()) return {};
  const auto written = [&](int64_t bytes) {
    if (progress) progress(bytes, writes.file_bytes);
  };
  SlabRing ring(least_slabs, block_bytes);
  BlockFile file(storage.create(below(directory, writes.file)), places_of(writes, source), written);
  BlockCutter cutter(ring, true, [&](Block block) { file.take(std::move(block)); });
  cut_shards(writes, source, cutter);
  const int64_t length_bytes = file.close();
  return {writes.file, length_bytes, file.digests()};
}

Bytes encode(const Proof& proof) {
  ByteWriter out;
  out.put_string(proof.file);
  out.put(proof.length_bytes);
  out.put<uint64_t>(proof.blocks.size());
  for (const Digest& block : proof.blocks) out.put_raw(block);
  return out.take();
}

Proof decode_proof(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Proof proof;
  proof.file = in.get_string();
  proof.length_bytes = in.get<int64_t>();
  proof.blocks.resize(in.get_count(sizeof(Digest)));
  for (Digest& block : proof.blocks) std::ranges::copy(in.get_raw(sizeof(Digest)), block.begin());
  return proof;
}

}  // namespace tessera
