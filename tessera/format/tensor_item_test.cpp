// Tensor items of item.h: their arithmetic, and calls that lie.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tessera/base/digest.h"
#include "tessera/format/archive.h"
#include "tessera/format/item.h"
#include "tessera/format/pickle_writer.h"
#include "tessera/layout/view.h"

namespace tessera::format {
namespace {

using testing::HasSubstr;

const std::vector<DType> every_dtype = [] {
  std::vector<DType> all;
  for (int i = 0; i <= static_cast<int>(DType::float4_e2m1fn_x2); ++i) all.push_back(static_cast<DType>(i));
  return all;
}();

Bytes some_data(int64_t count) {
  Bytes data(static_cast<size_t>(count));
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(7 * i + 1);
  return data;
}

Bytes item_of(DType dtype, std::span<const int64_t> sizes) {
  const Bytes data = some_data(volume(sizes) * element_bytes(dtype));
  ByteWriter out;
  out.put_raw(item_head(dtype, sizes, crc32(data)));
  out.put_raw(data);
  out.put_raw(item_tail(dtype, sizes, crc32(data)));
  return out.take();
}

// An item with this data.pkl, and one storage of these bytes.
Bytes archive_with(std::span<const std::byte> pickle, std::span<const std::byte> storage, const std::string& version = "3\n",
                   const std::string& byteorder = "little") {
  ZipLayout layout;
  ByteWriter out;
  const auto add = [&](const char* name, std::span<const std::byte> bytes) {
    layout.add(name, static_cast<int64_t>(bytes.size()), crc32(bytes), false);
    out.put_raw(layout.header());
    out.put_raw(bytes);
  };
  add("x/data.pkl", pickle);
  if (!byteorder.empty()) add("x/byteorder", as_bytes(byteorder));
  if (!version.empty()) add("x/version", as_bytes(version));
  add("x/data/0", storage);
  out.put_raw(layout.directory());
  return out.take();
}

// The call that makes a tensor, each part as it may be.
struct Call {
  std::string function = "torch._utils _rebuild_tensor_v2";
  std::string storage_class = "torch FloatStorage";
  std::string key = "0";
  int64_t numel = 6;
  int64_t storage_offset = 0;
  Sizes sizes = {2, 3};
  Sizes strides = {3, 1};
  std::string dtype = {};                              // v3
  std::vector<std::pair<std::string, bool>> bits = {};  // metadata
  Bytes pickle() const {
    PickleWriter out;
    out.global(function);
    out.mark();
    out.mark();
    out.text("storage");
    out.global(storage_class);
    out.text(key);
    out.text("cpu");
    out.integer(numel);
    out.tuple();
    out.persistent();
    out.integer(storage_offset);
    out.integers(sizes);
    out.integers(strides);
    out.boolean(false);
    out.global("collections OrderedDict");
    out.empty_tuple();
    out.reduce();
    if (!dtype.empty()) out.global(dtype);
    if (!bits.empty()) {
      out.empty_dict();
      out.mark();
      for (const auto& [name, bit] : bits) {
        out.text(name);
        out.boolean(bit);
      }
      out.set_items();
    }
    out.tuple();
    out.reduce();
    return out.finish();
  }
};

TensorItem read(const Bytes& item) { return read_tensor_item(MemorySource(item, "file")); }
TensorItem read(const Call& call, int64_t storage_bytes = 24) { return read(archive_with(call.pickle(), some_data(storage_bytes))); }

Fault fault_of(const Bytes& item) {
  try {
    read(item);
  } catch (const Error& error) {
    EXPECT_EQ(error.fault().file, "file");
    EXPECT_GE(error.fault().offset_bytes, 0);
    return error.fault();
  }
  ADD_FAILURE() << "was read";
  return {};
}
Fault fault_of(const Call& call, int64_t storage_bytes = 24) { return fault_of(archive_with(call.pickle(), some_data(storage_bytes))); }

RC_GTEST_PROP(TensorItem, ItsLengthIsArithmeticAndItReadsBack, ()) {
  const DType dtype = *rc::gen::elementOf(every_dtype);
  const auto sizes = *rc::gen::container<Sizes>(rc::gen::inRange<int64_t>(0, 5));
  RC_PRE(sizes.size() < 8u);
  const ItemFrame frame = item_frame(dtype, sizes);
  RC_ASSERT(frame.data_bytes == volume(sizes) * element_bytes(dtype));
  RC_ASSERT(frame.data_offset_bytes % 64 == 0);
  const uint32_t crc = *rc::gen::arbitrary<uint32_t>();
  RC_ASSERT(static_cast<int64_t>(item_head(dtype, sizes, crc).size()) == frame.data_offset_bytes);
  RC_ASSERT(static_cast<int64_t>(item_tail(dtype, sizes, crc).size()) == frame.length_bytes - frame.data_offset_bytes - frame.data_bytes);
  const Bytes item = item_of(dtype, sizes);
  RC_ASSERT(static_cast<int64_t>(item.size()) == frame.length_bytes);
  const TensorItem tensor = read(item);
  RC_ASSERT(tensor.dtype == dtype);
  RC_ASSERT(tensor.sizes == sizes);
  RC_ASSERT(tensor.strides == row_major(sizes));
  RC_ASSERT(tensor.first_bytes == frame.data_offset_bytes);
  RC_ASSERT(tensor.data_offset_bytes == frame.data_offset_bytes);
  RC_ASSERT(tensor.data_bytes == frame.data_bytes);
  RC_ASSERT(tensor.data_crc == crc32(some_data(frame.data_bytes)));
  RC_ASSERT(!tensor.big_endian && !tensor.conjugate && !tensor.negative);
}

TEST(TensorItem, HasTheArithmeticOfTerabytes) {
  const Sizes sizes = {int64_t{1} << 20, int64_t{1} << 20};
  const ItemFrame frame = item_frame(DType::float64, sizes);
  EXPECT_EQ(frame.data_bytes, int64_t{1} << 43);
  EXPECT_EQ(static_cast<int64_t>(item_head(DType::float64, sizes, 1).size()), frame.data_offset_bytes);
  EXPECT_EQ(static_cast<int64_t>(item_tail(DType::float64, sizes, 1).size()),
            frame.length_bytes - frame.data_offset_bytes - frame.data_bytes);
  EXPECT_LT(frame.length_bytes - frame.data_bytes, 2048);
}

TEST(TensorItem, RefusesEveryPrefix) {
  const Bytes item = item_of(DType::float32, Sizes{2, 3});
  for (size_t length = 0; length < item.size(); ++length) {
    SCOPED_TRACE(length);
    EXPECT_EQ(fault_of(Bytes(item.begin(), item.begin() + static_cast<std::ptrdiff_t>(length))).code, Code::corrupt);
  }
}

TEST(TensorItem, AfterAnyChangedByteAllElementsLieInsideTheItemStill) {
  const Bytes item = item_of(DType::int16, Sizes{2, 3});
  int refused = 0;
  for (size_t i = 0; i < item.size(); ++i) {
    for (const int value : {0, 1, 0x2e, 0x71, 0x80, 0xff}) {
      Bytes changed = item;
      changed[i] = static_cast<std::byte>(value);
      try {
        const TensorItem tensor = read(changed);
        int64_t last = tensor.first_bytes + element_bytes(tensor.dtype);
        for (size_t d = 0; d < tensor.sizes.size(); ++d) last += (tensor.sizes[d] - 1) * tensor.strides[d] * element_bytes(tensor.dtype);
        EXPECT_LE(tensor.data_offset_bytes, tensor.first_bytes);
        EXPECT_LE(last, tensor.data_offset_bytes + tensor.data_bytes);
        EXPECT_LE(tensor.data_offset_bytes + tensor.data_bytes, static_cast<int64_t>(item.size()));
      } catch (const Error&) {
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(TensorItem, MayHaveAnyStridesInsideItsStorage) {
  const TensorItem transposed = read(Call{.sizes = {3, 2}, .strides = {1, 3}});
  EXPECT_EQ(transposed.sizes, (Sizes{3, 2}));
  EXPECT_EQ(transposed.strides, (Sizes{1, 3}));
  const TensorItem shifted = read(Call{.storage_offset = 2, .sizes = {2, 2}, .strides = {2, 1}});
  EXPECT_EQ(shifted.first_bytes, shifted.data_offset_bytes + 8);
  EXPECT_EQ(read(Call{.sizes = {1000, 6}, .strides = {0, 1}}).sizes, (Sizes{1000, 6}));
  EXPECT_EQ(read(Call{.sizes = {}, .strides = {}}).sizes, Sizes{});
  EXPECT_EQ(read(Call{.storage_offset = 1000, .sizes = {0, 5}, .strides = {5, 1}}).sizes, (Sizes{0, 5})) << "nothing of it is read";
}

TEST(TensorItem, TheBitsThatStockKeepsArePassedOn) {
  const Call complex{
      .storage_class = "torch ComplexFloatStorage", .numel = 3, .sizes = {3}, .strides = {1}, .bits = {{"conj", true}, {"neg", false}}};
  EXPECT_TRUE(read(complex).conjugate);
  EXPECT_FALSE(read(complex).negative);
  EXPECT_TRUE(read(Call{.bits = {{"neg", true}}}).negative);
  EXPECT_EQ(fault_of(Call{.bits = {{"conj", true}}}).code, Code::corrupt) << "of a real tensor";
  EXPECT_EQ(fault_of(Call{.bits = {{"zero", true}}}).code, Code::unsupported);
}

TEST(TensorItem, OtherDTypesAreBytesWithAName) {
  const Call bytes{
      .function = "torch._utils _rebuild_tensor_v3", .storage_class = "torch.storage UntypedStorage", .numel = 24, .dtype = "torch uint32"};
  EXPECT_EQ(read(bytes).dtype, DType::uint32);
  Call typed = bytes;
  typed.storage_class = "torch FloatStorage";
  EXPECT_EQ(fault_of(typed).code, Code::corrupt);
  Call odd = bytes;
  odd.dtype = "torch uint16";
  odd.numel = 23;
  EXPECT_EQ(fault_of(odd, 23).code, Code::corrupt);
  Call unknown = bytes;
  unknown.dtype = "torch qint8";
  EXPECT_EQ(fault_of(unknown).code, Code::unsupported);
  unknown.dtype = "os system";
  EXPECT_EQ(fault_of(unknown).code, Code::corrupt);
}

TEST(TensorItem, RefusesATensorThatLies) {
  struct Case {
    const char* why;
    Call call;
    Code code = Code::corrupt;
    int64_t storage_bytes = 24;
  };
  constexpr int64_t large = int64_t{1} << 62;
  const std::vector<Case> cases = {
      {"too few bytes", {}, Code::corrupt, 20},
      {"too many bytes", {}, Code::corrupt, 28},
      {"reaches past its storage", {.strides = {4, 1}}},
      {"starts past its storage", {.storage_offset = 6, .sizes = {1}, .strides = {1}}},
      {"negative offset", {.storage_offset = -1}},
      {"negative stride", {.storage_offset = 5, .strides = {-3, 1}}},
      {"negative size", {.sizes = {-2, 3}}},
      {"negative numel", {.numel = -6}},
      {"one stride too few", {.strides = {3}}},
      {"sizes that overflow", {.sizes = {large, large}, .strides = {0, 0}}},
      {"sizes that overflow beside a 0", {.sizes = {0, large, large}, .strides = {0, 0, 0}}},
      {"bytes that overflow", {.sizes = {large}, .strides = {0}}},
      {"strides that overflow", {.strides = {large, large}}},
      {"numel that overflows", {.numel = large}},
      {"65 dimensions", {.sizes = Sizes(65, 1), .strides = Sizes(65, 1)}},
      {"a storage that is not there", {.key = "1"}},
      {"a key that leads out", {.key = "../version"}},
      {"a storage of no kind", {.storage_class = "torch QInt8Storage"}, Code::unsupported},
      {"a storage that is a function", {.storage_class = "os system"}, Code::unsupported},
      {"a function that is not torch's", {.function = "os system"}, Code::unsupported},
      {"a function for what we do not read", {.function = "torch._utils _rebuild_sparse_tensor"}, Code::unsupported},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.why);
    EXPECT_EQ(fault_of(c.call, c.storage_bytes).code, c.code);
  }
}

TEST(TensorItem, RefusesArchivesThatAreNotTorchs) {
  const Bytes pickle = Call{}.pickle();
  const Bytes data = some_data(24);
  EXPECT_EQ(fault_of(archive_with(pickle, data, "")).code, Code::corrupt);
  EXPECT_EQ(fault_of(archive_with(pickle, data, "three")).code, Code::corrupt);
  EXPECT_EQ(fault_of(archive_with(pickle, data, "3x")).code, Code::corrupt);
  EXPECT_EQ(fault_of(archive_with(pickle, data, "0")).code, Code::unsupported);
  EXPECT_EQ(fault_of(archive_with(pickle, data, "11\n")).code, Code::unsupported);
  EXPECT_EQ(fault_of(archive_with(pickle, data, "3", "middle")).code, Code::corrupt);
  EXPECT_EQ(read(archive_with(pickle, data, "10", "")).dtype, DType::float32);
  EXPECT_TRUE(read(archive_with(pickle, data, "3", "big")).big_endian);
  ZipLayout layout;
  ByteWriter top;
  layout.add("data.pkl", static_cast<int64_t>(pickle.size()), crc32(pickle), false);
  top.put_raw(layout.header());
  top.put_raw(pickle);
  top.put_raw(layout.directory());
  EXPECT_THAT(fault_of(top.take()).what, HasSubstr("outside the archive's folder"));
}

TEST(TensorItem, AnItemThatIsNoTensorSaysSo) { EXPECT_THAT(fault_of(write_object_item(Value(5))).what, HasSubstr("no tensor")); }

}  // namespace
}  // namespace tessera::format
