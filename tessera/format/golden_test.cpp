// Checkpoints that stock PyTorch wrote, and damaged ones (tests/golden/data), through the parsers of this room.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tessera/base/digest.h"
#include "tessera/format/dcp.h"
#include "tessera/format/item.h"
#include "tessera/layout/view.h"

namespace tessera::format {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

const fs::path golden = TESSERA_GOLDEN;

Bytes file_bytes(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error({.code = Code::not_found, .what = "no such file", .file = path.string()});
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  return {as_bytes(text).begin(), as_bytes(text).end()};
}

Json json_of(const fs::path& path) { return Json::parse(std::ifstream(path)); }

std::vector<fs::path> folders(const fs::path& root) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(root)) {
    if (entry.is_directory()) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

// Those whose files the fixtures' generator decoded; other formats have readers, and tests, elsewhere.
std::vector<fs::path> decoded_folders(const fs::path& root) {
  std::vector<fs::path> found = folders(root);
  std::erase_if(found, [](const fs::path& folder) { return !fs::exists(folder / "decoded.json"); });
  return found;
}

std::string name_of(const testing::TestParamInfo<fs::path>& info) {
  std::string name = info.param.filename().string();
  std::ranges::replace_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

// Calls work(key, chunk's box or null, item) for every item of a checkpoint.
template <class Work>
void for_each_item(const fs::path& directory, const Manifest& manifest, Work work) {
  std::map<std::string, Bytes> files;
  const auto item = [&](const Extent& at, auto use) {
    if (!files.contains(at.file)) files[at.file] = file_bytes(directory / at.file);
    const MemorySource file(files[at.file], at.file);
    use(PartSource(file, at.offset_bytes, at.length_bytes));
  };
  for (const auto& [key, entry] : manifest.entries) {
    if (const auto* object = std::get_if<ObjectEntry>(&entry.is)) {
      item(object->at, [&](const ByteSource& source) { work(key, nullptr, source); });
      continue;
    }
    for (const Chunk& chunk : std::get<TensorEntry>(entry.is).chunks) {
      item(chunk.at, [&](const ByteSource& source) { work(key, &chunk, source); });
    }
  }
}

// Reads all of a checkpoint that this room can read, and what every reader checks of a tensor.
void read_all(const fs::path& directory) {
  const Manifest manifest = decode_metadata(file_bytes(directory / metadata_file));
  for_each_item(directory, manifest, [&](const std::string& key, const Chunk* chunk, const ByteSource& item) {
    if (!chunk) {
      read_object_item(item);
      return;
    }
    const TensorItem tensor = read_tensor_item(item);
    const auto& entry = std::get<TensorEntry>(manifest.entries.at(key).is);
    if (tensor.dtype != entry.dtype || tensor.sizes != chunk->box.sizes)
      throw Error({.code = Code::corrupt, .what = "an item that is not what the metadata says"});
    Bytes data(static_cast<size_t>(tensor.data_bytes));
    item.read(tensor.data_offset_bytes, data);
    if (crc32(data) != tensor.data_crc) throw Error({.code = Code::corrupt, .what = "a CRC that differs"});
  });
}

// What decoded.json says, which the fixtures' generator took from Python's own pickle.load, as a Manifest.
Manifest manifest_of(const Json& decoded) {
  Manifest manifest;
  std::map<std::pair<std::string, Json>, Extent> places;
  for (const Json& place : decoded["storage_data"]) {
    Extent at{place["relative_path"], place["offset"], place["length"], {}};
    if (place.contains("transform_descriptors") && !place["transform_descriptors"].is_null())
      at.transforms = place["transform_descriptors"];
    places[{place["fqn"], place["chunk_offset"]}] = at;
  }
  for (const Json& described : decoded["state_dict_metadata"]) {
    const std::string key = described["key"];
    Entry& entry = manifest.entries[key];
    if (described["kind"] == "bytes") {
      entry.is = ObjectEntry{places.at({key, nullptr})};
      continue;
    }
    TensorEntry tensor{*dtype_named(described["properties"]["dtype"].get<std::string>()), described["size"], {}};
    for (const Json& chunk : described["chunks"])
      tensor.chunks.push_back({{chunk["offsets"], chunk["sizes"]}, places.at({key, chunk["offsets"]})});
    entry.is = std::move(tensor);
  }
  for (const Json& planned : decoded["planner_data"]) {
    KeyPath path;
    for (const Json& element : planned["path"]) {
      if (element.is_number()) path.emplace_back(element.get<int64_t>());
      else path.emplace_back(element.get<std::string>());
    }
    manifest.entries.at(planned["key"]).path = std::move(path);
  }
  return manifest;
}

class Stock : public testing::TestWithParam<fs::path> {};

TEST_P(Stock, MetadataSaysWhatPythonReadsInIt) {
  const Json decoded = json_of(GetParam() / "decoded.json")[metadata_file];
  const Manifest manifest = decode_metadata(file_bytes(GetParam() / "ckpt" / metadata_file));
  const Manifest expected = manifest_of(decoded["metadata"]);
  EXPECT_EQ(manifest.writer_version, -1);
  ASSERT_EQ(manifest.entries.size(), expected.entries.size());
  for (const auto& [key, entry] : expected.entries) EXPECT_EQ(manifest.entries.at(key), entry) << key;
  EXPECT_EQ(decode_metadata(encode_metadata(manifest)), manifest) << "and is the same in our own form";
}

TEST_P(Stock, ItemsAreWhatPythonReadsInThem) {
  const Json decoded = json_of(GetParam() / "decoded.json")[metadata_file];
  std::map<std::pair<std::string, Json>, Json> expected;
  for (const Json& item : decoded["items"]) expected[{item["fqn"], item["chunk_offset"]}] = item;
  const fs::path directory = GetParam() / "ckpt";
  read_all(directory);
  const Manifest manifest = decode_metadata(file_bytes(directory / metadata_file));
  size_t seen = 0;
  for_each_item(directory, manifest, [&](const std::string& key, const Chunk* chunk, const ByteSource& item) {
    SCOPED_TRACE(key);
    ++seen;
    const Json& as = expected.at({key, chunk ? Json(chunk->box.offsets) : Json()});
    if (!chunk) {
      const Value value = read_object_item(item);
      const bool opaque = as["value"]["t"] == "opaque";
      EXPECT_EQ(value.as<Value::Opaque>() != nullptr, opaque) << to_string(value);
      if (opaque) {
        EXPECT_EQ(value.as<Value::Opaque>()->global, as["value"]["global"].get<std::string>());
      }
      const Bytes again = write_object_item(value);
      EXPECT_EQ(read_object_item(MemorySource(again)), value) << "and is the same in our own form";
      return;
    }
    const TensorItem tensor = read_tensor_item(item);
    EXPECT_EQ(name(tensor.dtype), as["dtype"].get<std::string>());
    EXPECT_EQ(tensor.sizes, as["shape"].get<Sizes>());
    EXPECT_EQ(tensor.strides, as["stride"].get<Sizes>());
    EXPECT_EQ(tensor.data_bytes, as["storage_nbytes"].get<int64_t>());
    EXPECT_EQ(tensor.first_bytes - tensor.data_offset_bytes, as["storage_offset"].get<int64_t>() * element_bytes(tensor.dtype));
    EXPECT_EQ(tensor.data_offset_bytes % 64, 0);
  });
  EXPECT_EQ(seen, decoded["items"].size());
}

INSTANTIATE_TEST_SUITE_P(Golden, Stock, testing::ValuesIn(decoded_folders(golden / "torch-2.13")), name_of);

TEST(Minimal, AllFormsSayTheSame) {
  const auto variants = folders(golden / "minimal");
  ASSERT_EQ(variants.size(), 4u);
  const Manifest first = decode_metadata(file_bytes(variants[0] / metadata_file));
  for (const fs::path& variant : variants) {
    SCOPED_TRACE(variant.filename());
    Manifest manifest = decode_metadata(file_bytes(variant / metadata_file));
    EXPECT_EQ(manifest.entries.size(), json_of(golden / "minimal" / "expected.json")["entries"].size());
    EXPECT_NO_THROW(read_all(variant));
    for (const auto& [key, entry] : first.entries) EXPECT_EQ(manifest.entries.at(key).is.index(), entry.is.index()) << key;
  }
}

class Hostile : public testing::TestWithParam<fs::path> {};

TEST_P(Hostile, IsRefusedOrAcceptedAsItShould) {
  const Json cases = json_of(golden / "hostile" / "cases.json");
  const Json& expected = cases.at(GetParam().filename().string());
  const auto outcome = capture([&] { read_all(GetParam()); });
  if (expected["expect"] == "accept") {
    EXPECT_TRUE(outcome) << describe(outcome.fault);
    return;
  }
  ASSERT_FALSE(outcome) << expected["why"];
  EXPECT_THAT(outcome.fault.code, testing::AnyOf(Code::corrupt, Code::unsupported, Code::limit)) << describe(outcome.fault);
}

INSTANTIATE_TEST_SUITE_P(Golden, Hostile, testing::ValuesIn(folders(golden / "hostile")), name_of);

TEST(Damaged, MetadataOfStockEndsInAManifestOrInAnError) {
  for (const char* fixture : {"nested_objects", "fsdp2_uneven"}) {
    const Bytes whole = file_bytes(golden / "torch-2.13" / fixture / "ckpt" / metadata_file);
    int refused = 0;
    for (size_t i = 0; i < whole.size(); ++i) {
      Bytes changed = whole;
      changed[i] ^= static_cast<std::byte>(1 << (i % 8));
      refused += !capture([&] { decode_metadata(changed); });
    }
    EXPECT_GT(refused, 500) << fixture;
    for (size_t length = 0; length < whole.size(); length += 7)
      EXPECT_FALSE(capture([&] { decode_metadata(std::span(whole).first(length)); })) << length;
  }
}

TEST(Damaged, ItemsOfStockEndInAValueOrInAnError) {
  const fs::path directory = golden / "torch-2.13" / "nested_objects" / "ckpt";
  const Manifest manifest = decode_metadata(file_bytes(directory / metadata_file));
  int refused = 0;
  int items = 0;
  for_each_item(directory, manifest, [&](const std::string&, const Chunk* chunk, const ByteSource& item) {
    ++items;
    Bytes whole(static_cast<size_t>(item.size_bytes()));
    item.read(0, whole);
    for (size_t i = static_cast<size_t>(items) % 5; i < whole.size(); i += 5) {
      Bytes changed = whole;
      changed[i] ^= static_cast<std::byte>(1 << (i % 8));
      const MemorySource source(changed);
      refused += chunk ? !capture([&] { read_tensor_item(source); }) : !capture([&] { read_object_item(source); });
    }
  });
  EXPECT_GT(refused, 10 * items);
}

}  // namespace
}  // namespace tessera::format
