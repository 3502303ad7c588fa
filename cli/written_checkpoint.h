// cli/written_checkpoint.h: for the tests of the commands: a checkpoint written by format/ alone, in a directory that goes
// with the test.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "tessera/base/digest.h"
#include "tessera/format/dcp.h"
#include "tessera/format/item.h"

namespace tessera::cli {

class WrittenCheckpoint {
 public:
  WrittenCheckpoint() : path_(std::filesystem::temp_directory_path() / ("tessera-cli-" + random_id())) {
    std::filesystem::create_directory(path_);
  }
  ~WrittenCheckpoint() { std::filesystem::remove_all(path_); }
  WrittenCheckpoint(const WrittenCheckpoint&) = delete;
  WrittenCheckpoint& operator=(const WrittenCheckpoint&) = delete;

  // A one-dimensional tensor of `values`, cut into chunks of at most `chunk` elements.
  template <class T>
  WrittenCheckpoint& tensor(const std::string& key, DType dtype, const std::vector<T>& values, size_t chunk = 1 << 20) {
    TensorEntry entry{dtype, {static_cast<int64_t>(values.size())}, {}};
    for (size_t begin = 0; begin < values.size(); begin += chunk) {
      const auto part = std::span(values).subspan(begin, std::min(chunk, values.size() - begin));
      const Sizes sizes = {static_cast<int64_t>(part.size())};
      const auto data = std::as_bytes(part);
      const uint32_t crc = crc32(data);
      Bytes item = format::item_head(dtype, sizes, crc);
      item.insert(item.end(), data.begin(), data.end());
      const Bytes tail = format::item_tail(dtype, sizes, crc);
      item.insert(item.end(), tail.begin(), tail.end());
      entry.chunks.push_back({{{static_cast<int64_t>(begin)}, sizes}, append(item)});
    }
    manifest_.entries[key] = {{key}, entry};
    return *this;
  }
  WrittenCheckpoint& object(const std::string& key, const Value& value) {
    manifest_.entries[key] = {{key}, ObjectEntry{append(format::write_object_item(value))}};
    return *this;
  }
  // Writes the files; returns the directory.
  std::string write() {
    manifest_.writer_version = 0;
    manifest_.save_id = "a-save";
    put("__0_0.distcp", data_);
    put(format::metadata_file, format::encode_metadata(manifest_));
    return path_.string();
  }

 private:
  Extent append(const Bytes& item) {
    const Extent at{"__0_0.distcp", static_cast<int64_t>(data_.size()), static_cast<int64_t>(item.size())};
    data_.insert(data_.end(), item.begin(), item.end());
    return at;
  }
  void put(const std::string& name, const Bytes& bytes) const {
    std::ofstream file(path_ / name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    ASSERT_TRUE(file.flush()) << path_ / name;
  }

  std::filesystem::path path_;
  Manifest manifest_;
  Bytes data_;
};

}  // namespace tessera::cli
