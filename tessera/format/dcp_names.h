// tessera/format/dcp_names.h: what the classes of a `.metadata` are called, and how ours begins.
#pragma once

#include <string_view>

namespace tessera::format {

inline constexpr const char* metadata_class = "torch.distributed.checkpoint.metadata Metadata";
inline constexpr const char* tensor_class = "torch.distributed.checkpoint.metadata TensorStorageMetadata";
inline constexpr const char* bytes_class = "torch.distributed.checkpoint.metadata BytesStorageMetadata";
inline constexpr const char* chunk_class = "torch.distributed.checkpoint.metadata ChunkStorageMetadata";
inline constexpr const char* index_class = "torch.distributed.checkpoint.metadata MetadataIndex";
inline constexpr const char* properties_class = "torch.distributed.checkpoint.metadata TensorProperties";
inline constexpr const char* old_properties_class = "torch.distributed._shard.sharded_tensor.metadata TensorProperties";
inline constexpr const char* info_class = "torch.distributed.checkpoint.filesystem _StorageInfo";
inline constexpr std::string_view marker_prefix = "tessera/";

}  // namespace tessera::format
