// dcp.h: the bytes that are written, every manifest, and metadata that is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <functional>

#include "tessera/format/dcp.h"
#include "tessera/format/pickle.h"
#include "tessera/format/pickle_writer.h"
#include "tessera/layout/random_layouts.h"

namespace tessera::format {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

const std::string metadata_module = "torch.distributed.checkpoint.metadata ";

// One key "w", float32 [2, 3] in one chunk: the example of the format's description.
Manifest one_tensor() {
  Manifest manifest;
  manifest.entries["w"] = {{"w"}, TensorEntry{DType::float32, {2, 3}, {{{{0, 0}, {2, 3}}, {"__0_0.distcp", 0, 0x0611}}}}};
  return manifest;
}

// .metadata in the call form, each part as it may be.
struct Form {
  using Part = std::function<void(PickleWriter&)>;
  static void size(PickleWriter& out, const Sizes& sizes) {
    out.global("torch Size");
    out.integers(sizes);
    out.tuple1();
    out.reduce();
  }
  static void call(PickleWriter& out, const std::string& global, const Part& arguments) {
    out.global(global);
    out.mark();
    arguments(out);
    out.tuple();
    out.reduce();
  }
  static void dict(PickleWriter& out, const Part& items) {
    out.empty_dict();
    out.mark();
    items(out);
    out.set_items();
  }
  static void chunk(PickleWriter& out, const Sizes& offsets, const Sizes& sizes) {
    call(out, metadata_module + "ChunkStorageMetadata", [&](PickleWriter& in) {
      size(in, offsets);
      size(in, sizes);
    });
  }
  static void place(PickleWriter& out, const std::string& key, const Sizes& offsets, const std::string& file = "__0_0.distcp",
                    int64_t at = 0, int64_t length = 1500) {
    call(out, metadata_module + "MetadataIndex", [&](PickleWriter& in) {
      in.text(key);
      size(in, offsets);
      in.none();
    });
    call(out, "torch.distributed.checkpoint.filesystem _StorageInfo", [&](PickleWriter& in) {
      in.text(file);
      in.integer(at);
      in.integer(length);
    });
  }
  static void tensor(PickleWriter& out, const std::string& dtype, const Sizes& sizes, const Part& chunks) {
    call(out, metadata_module + "TensorStorageMetadata", [&](PickleWriter& in) {
      call(in, metadata_module + "TensorProperties", [&](PickleWriter& properties) { properties.global(dtype); });
      size(in, sizes);
      in.empty_list();
      in.mark();
      chunks(in);
      in.appends();
    });
  }

  Part entries = [](PickleWriter& out) {
    out.text("w");
    tensor(out, "torch float32", {2, 3}, [](PickleWriter& in) { chunk(in, {0, 0}, {2, 3}); });
  };
  Part paths = [](PickleWriter& out) {
    out.text("w");
    out.text("w");
    out.tuple1();
  };
  Part places = [](PickleWriter& out) { place(out, "w", {0, 0}); };
  Part more = [](PickleWriter&) {};

  Bytes bytes() const {
    PickleWriter out;
    call(out, metadata_module + "Metadata", [&](PickleWriter& in) {
      dict(in, entries);
      if (paths) dict(in, paths);
      else in.none();
      dict(in, places);
      more(in);
    });
    return out.finish();
  }
};

Fault fault_of(std::span<const std::byte> bytes, const Limits& limits = {}) {
  try {
    decode_metadata(bytes, limits);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault().file, ".metadata");
    return error.fault();
  }
  ADD_FAILURE() << "was read";
  return {};
}
Fault fault_of(const Form& form) { return fault_of(form.bytes()); }

TEST(Metadata, IsWrittenByteForByteAsDescribed) {
  std::string expected =
      "\x80\x02"
      "ctorch.distributed.checkpoint.metadata\nMetadata\nq\x00("
      "}(X\x01\x00\x00\x00w"
      "ctorch.distributed.checkpoint.metadata\nTensorStorageMetadata\nq\x01("
      "ctorch.distributed.checkpoint.metadata\nTensorProperties\nq\x02"
      "ctorch\nfloat32\nq\x03\x85R"
      "ctorch\nSize\nq\x04K\x02K\x03\x86\x85R"
      "]("
      "ctorch.distributed.checkpoint.metadata\nChunkStorageMetadata\nq\x05"
      "h\x04K\x00K\x00\x86\x85Rh\x04K\x02K\x03\x86\x85R\x86R"
      "etRu"
      "}(X\x01\x00\x00\x00w(X\x01\x00\x00\x00wtu"
      "}("
      "ctorch.distributed.checkpoint.metadata\nMetadataIndex\nq\x06(X\x01\x00\x00\x00wh\x04K\x00K\x00\x86\x85RK\x00tR"
      "ctorch.distributed.checkpoint.filesystem\n_StorageInfo\nq\x07(X\x0c\x00\x00\x00__0_0.distcpK\x00M\x11\x06tR"
      "utR."s;
  EXPECT_EQ(as_text(encode_metadata(one_tensor())), expected);
  Manifest ours = one_tensor();
  ours.writer_version = 0;
  ours.save_id = "id";
  expected.insert(2, "X\x0c\x00\x00\x00tessera/0 id0"s);
  EXPECT_EQ(as_text(encode_metadata(ours)), expected);
}

// A manifest as a save could make it: rows of each tensor spread over files, keys of all kinds.
Manifest any_manifest() {
  Manifest manifest;
  const int keys = *rc::gen::inRange(0, 6);
  for (int k = 0; k < keys; ++k) {
    auto name = *rc::gen::container<std::string>(rc::gen::inRange<char>(0, 127));
    const std::string key = name + std::to_string(k);
    KeyPath path = {key};
    if (*rc::gen::arbitrary<bool>()) path = {"list", int64_t{k}};
    if (*rc::gen::arbitrary<bool>()) path.insert(path.begin(), "outer." + std::to_string(k));
    const auto extent = [&] {
      const int64_t at = *rc::gen::inRange<int64_t>(0, int64_t{1} << 40);
      Extent where{"__" + std::to_string(*rc::gen::inRange(0, 9)) + "_0.distcp", at, *rc::gen::inRange<int64_t>(0, int64_t{1} << 40), {}};
      if (*rc::gen::inRange(0, 9) == 0) where.transforms = {"stream.zstd/1"};
      return where;
    };
    if (*rc::gen::inRange(0, 3) == 0) {
      manifest.entries[key] = {path, ObjectEntry{extent()}};
      continue;
    }
    TensorEntry tensor{static_cast<DType>(*rc::gen::inRange(0, static_cast<int>(DType::float4_e2m1fn_x2) + 1)), {}, {}};
    const int rows = *rc::gen::inRange(-1, 5);
    if (rows < 0) {
      tensor.chunks.push_back({{{}, {}}, extent()});  // no dimensions
    } else {
      tensor.sizes = {rows, 3, int64_t{1} << 33};
      for (int row = 0; row < rows; ++row) tensor.chunks.push_back({{{row, 0, 0}, {1, 3, int64_t{1} << 33}}, extent()});
      if (rows == 0 || *rc::gen::arbitrary<bool>()) tensor.chunks.push_back({{{rows, 0, 0}, {0, 3, int64_t{1} << 33}}, extent()});
    }
    manifest.entries[key] = {path, std::move(tensor)};
  }
  if (*rc::gen::arbitrary<bool>()) {
    manifest.writer_version = 0;
    manifest.save_id = "0123456789abcdef";
  }
  return manifest;
}

RC_GTEST_PROP(Metadata, EveryManifestComesBack, ()) {
  const Manifest manifest = any_manifest();
  RC_ASSERT(decode_metadata(encode_metadata(manifest)) == manifest);
}

TEST(Metadata, AnEntryWithoutAPathGetsItsKey) {
  Manifest manifest = one_tensor();
  manifest.entries["w"].path = {};
  EXPECT_EQ(decode_metadata(encode_metadata(manifest)), one_tensor());
}

TEST(Metadata, RefusesToWriteWhatItWouldNotRead) {
  Manifest manifest = one_tensor();
  manifest.entries["v"] = manifest.entries["w"];
  EXPECT_THROW(encode_metadata(manifest), Error) << "two keys with one path";
  manifest = one_tensor();
  manifest.entries["caf\xff"] = {{"x"}, ObjectEntry{{"__0_0.distcp", 0, 1}}};
  EXPECT_THROW(encode_metadata(manifest), Error) << "no UTF-8";
  manifest = one_tensor();
  manifest.entries["w"].path = KeyPath(101, "x");
  EXPECT_THROW(encode_metadata(manifest), Error);
}

RC_GTEST_PROP(Metadata, OfOneSaveBecomesThatOfAnother, ()) {
  const auto any_id = [] { return std::string(*uniform<size_t>(0, 300), *rc::gen::element('a', 'b')); };
  Manifest manifest = one_tensor();
  manifest.writer_version = *rc::gen::element(0, 1);
  manifest.save_id = any_id();
  Bytes metadata = encode_metadata(manifest);
  manifest.save_id = any_id();
  set_save_id(metadata, manifest.save_id);
  RC_ASSERT(metadata == encode_metadata(manifest));
}

TEST(Metadata, ThatNamesNoSaveIsNotGivenAnother) {
  Bytes stock = encode_metadata(one_tensor());
  EXPECT_THROW(set_save_id(stock, "id"), Error);
  Manifest ours = one_tensor();
  ours.writer_version = 1;
  Bytes metadata = encode_metadata(ours);
  EXPECT_THROW(set_save_id(metadata, "caf\xff"), Error) << "no UTF-8";
  EXPECT_EQ(metadata, encode_metadata(ours));
  for (size_t size = 0; size < 12; ++size) {
    Bytes cut(metadata.begin(), metadata.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THROW(set_save_id(cut, "id"), Error) << size;
  }
}

TEST(Metadata, ReadsWhatAWriterMayLeaveOut) {
  Form form;
  EXPECT_EQ(decode_metadata(form.bytes()).entries.at("w").path, KeyPath{"w"});
  form.paths = nullptr;
  EXPECT_EQ(decode_metadata(form.bytes()).entries.at("w").path, KeyPath{"w"}) << "planner_data is None";
  form.more = [](PickleWriter& out) {
    out.global("some.other StorageMeta");
    out.empty_tuple();
    out.reduce();
    out.integer(7);
  };
  EXPECT_NO_THROW(decode_metadata(form.bytes())) << "storage_meta and version are nobody's business";
  form.places = [](PickleWriter& out) {
    Form::place(out, "w", {0, 0});
    Form::place(out, "gone", {0});
  };
  EXPECT_NO_THROW(decode_metadata(form.bytes())) << "a place of a key that is not there";
}

TEST(Metadata, KnowsItsOwnMarkerOnly) {
  const Bytes plain = encode_metadata(one_tensor());
  const auto with_marker = [&](std::string marker) {
    ByteWriter out;
    out.put_raw(std::span(plain).first(2));
    out.put('X');
    out.put(static_cast<uint32_t>(marker.size()));
    out.put_raw(as_bytes(marker));
    out.put('0');
    out.put_raw(std::span(plain).subspan(2));
    return out.take();
  };
  EXPECT_EQ(decode_metadata(plain).writer_version, -1);
  EXPECT_EQ(decode_metadata(with_marker("tessera/0 my id")).save_id, "my id");
  EXPECT_EQ(fault_of(with_marker("tessera/99 id")).code, Code::unsupported);
  EXPECT_THAT(fault_of(with_marker("tessera/99 id")).hint, HasSubstr("update"));
  for (const char* marker : {"tessera/0", "tessera/ id", "tessera/-1 id", "tessera/0x id", "tessera/99999999999999 id", "other/1 id"}) {
    EXPECT_EQ(fault_of(with_marker(marker)).code, Code::corrupt) << marker;
  }
}

TEST(Metadata, RefusesDescriptionsThatAreNotTorchs) {
  const auto entry = [](const Form::Part& value) {
    Form form;
    form.entries = [value](PickleWriter& out) {
      out.text("w");
      value(out);
    };
    return form;
  };
  const auto whole_chunk = [](PickleWriter& out) { Form::chunk(out, {0, 0}, {2, 3}); };
  EXPECT_EQ(fault_of(entry([](PickleWriter& out) { Form::call(out, "os getcwd", [](PickleWriter&) {}); })).code, Code::corrupt);
  EXPECT_EQ(fault_of(entry([](PickleWriter& out) { out.none(); })).code, Code::corrupt);
  EXPECT_EQ(fault_of(entry([&](PickleWriter& out) { Form::tensor(out, "torch qint8", {2, 3}, whole_chunk); })).code, Code::unsupported);
  EXPECT_EQ(fault_of(entry([&](PickleWriter& out) { Form::tensor(out, "os float32", {2, 3}, whole_chunk); })).code, Code::corrupt);
  EXPECT_EQ(fault_of(entry([&](PickleWriter& out) { Form::tensor(out, "torch float32", {2, -3}, whole_chunk); })).code, Code::corrupt);
  EXPECT_EQ(fault_of(entry([&](PickleWriter& out) { Form::tensor(out, "torch float32", {2, 4}, whole_chunk); })).code, Code::corrupt)
      << "a hole";
  EXPECT_EQ(fault_of(entry([&](PickleWriter& out) { Form::tensor(out, "torch float32", {2}, whole_chunk); })).code, Code::corrupt)
      << "other dimensions";
  EXPECT_EQ(fault_of(entry([&](PickleWriter& out) { Form::tensor(out, "torch float32", Sizes(65, 1), whole_chunk); })).code, Code::corrupt);
  EXPECT_EQ(fault_of(entry([](PickleWriter& out) { Form::tensor(out, "torch float32", {2, 3}, [](PickleWriter&) {}); })).code,
            Code::corrupt)
      << "no chunk";
  EXPECT_EQ(
      fault_of(entry([](PickleWriter& out) { Form::tensor(out, "torch float32", {2, 3}, [](PickleWriter& in) { in.integer(1); }); })).code,
      Code::corrupt);
  // A record that was changed after it was made.
  EXPECT_EQ(fault_of(entry([&](PickleWriter& out) {
              Form::tensor(out, "torch float32", {2, 3}, whole_chunk);
              out.empty_dict();
              out.build();
            })).code,
            Code::corrupt);
}

TEST(Metadata, RefusesFieldsThatComeTwice) {
  Form form;
  form.entries = [](PickleWriter& out) {
    for (int i = 0; i < 2; ++i) {
      out.text("w");
      Form::tensor(out, "torch float32", {2, 3}, [](PickleWriter& in) { Form::chunk(in, {0, 0}, {2, 3}); });
    }
  };
  EXPECT_THAT(fault_of(form).what, HasSubstr("twice"));
  form = {};
  form.paths = [](PickleWriter& out) {
    for (int i = 0; i < 2; ++i) {
      out.text("w");
      out.text("w");
      out.tuple1();
    }
  };
  EXPECT_THAT(fault_of(form).what, HasSubstr("twice"));
  form = {};
  form.places = [](PickleWriter& out) {
    for (int i = 0; i < 2; ++i) Form::place(out, "w", {0, 0});
  };
  EXPECT_THAT(fault_of(form).what, HasSubstr("two places"));
  form = {};
  form.entries = [](PickleWriter& out) {
    out.text("w");
    out.global(metadata_module + "TensorStorageMetadata");
    out.empty_tuple();
    out.new_object();
    Form::dict(out, [](PickleWriter& in) {
      for (int i = 0; i < 2; ++i) {
        in.text("size");
        Form::size(in, {2, 3});
      }
    });
    out.build();
  };
  EXPECT_THAT(fault_of(form).what, HasSubstr("twice"));
}

TEST(Metadata, RefusesPlacesThatCannotBe) {
  const auto placed = [](const std::string& key, const Sizes& offsets, const std::string& file, int64_t at, int64_t length) {
    Form form;
    form.places = [=](PickleWriter& out) { Form::place(out, key, offsets, file, at, length); };
    return form;
  };
  EXPECT_NO_THROW(decode_metadata(placed("w", {0, 0}, "sub/file", 5, 6).bytes()));
  EXPECT_THAT(fault_of(placed("v", {0, 0}, "f", 0, 1)).what, HasSubstr("no place"));
  EXPECT_THAT(fault_of(placed("w", {1, 0}, "f", 0, 1)).what, HasSubstr("no place"));
  EXPECT_EQ(fault_of(placed("w", {0, 0}, "f", -1, 1)).code, Code::corrupt);
  EXPECT_EQ(fault_of(placed("w", {0, 0}, "f", 0, -1)).code, Code::corrupt);
  EXPECT_EQ(fault_of(placed("w", {0, 0}, "f", std::numeric_limits<int64_t>::max(), 1)).code, Code::corrupt);
  for (const std::string& file : {""s, "/f"s, "../f"s, "a/../f"s, "a//f"s, "./f"s, "a\0b"s, "a\\b"s}) {
    EXPECT_EQ(fault_of(placed("w", {0, 0}, file, 0, 1)).code, Code::corrupt) << file;
  }
}

TEST(Metadata, RefusesPathsThatCannotBe) {
  const auto path = [](const Form::Part& value) {
    Form form;
    form.paths = [value](PickleWriter& out) {
      out.text("w");
      value(out);
    };
    return form;
  };
  EXPECT_EQ(fault_of(path([](PickleWriter& out) { out.empty_tuple(); })).code, Code::corrupt);
  EXPECT_EQ(fault_of(path([](PickleWriter& out) { out.text("w"); })).code, Code::corrupt);
  EXPECT_EQ(fault_of(path([](PickleWriter& out) {
              out.none();
              out.tuple1();
            })).code,
            Code::corrupt);
  // As long as a file may be: must end in an error, not in a stack of as many calls.
  EXPECT_EQ(fault_of(path([](PickleWriter& out) {
              out.mark();
              for (int i = 0; i < 1'000'000; ++i) out.text("");
              out.tuple();
            })).code,
            Code::corrupt);
}

TEST(Metadata, RespectsItsLimits) {
  const Bytes bytes = encode_metadata(one_tensor());
  EXPECT_EQ(fault_of(bytes, {.metadata_bytes = 100}).code, Code::limit);
  EXPECT_EQ(fault_of(bytes, {.nodes = 20}).code, Code::limit);
  EXPECT_EQ(fault_of(bytes, {.depth = 5}).code, Code::limit);
}

TEST(Metadata, RefusesEveryPrefixAndSurvivesEveryChangedByte) {
  const Bytes whole = encode_metadata(one_tensor());
  for (size_t length = 0; length < whole.size(); ++length)
    EXPECT_EQ(fault_of(std::span(whole).first(length)).code, Code::corrupt) << length;
  int refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int value : {0x00, 0x01, 0x29, 0x2e, 0x52, 0x61, 0x71, 0x80, 0x94, 0xff}) {
      Bytes changed = whole;
      changed[i] = static_cast<std::byte>(value);
      try {
        validate(decode_metadata(changed));
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace tessera::format
