#include "tessera/manifest/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>

#include "tessera/layout/random_layouts.h"

namespace tessera {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Fault fault_of_tiling(std::span<const int64_t> sizes, const std::vector<Box>& boxes, Code code = Code::corrupt) {
  const auto outcome = capture([&] { check_tiling("a.weight", sizes, boxes, code); });
  EXPECT_FALSE(outcome) << "these boxes must be refused";
  return outcome.fault;
}
bool tiles(std::span<const int64_t> sizes, const std::vector<Box>& boxes) {
  return bool(capture([&] { check_tiling("k", sizes, boxes, Code::corrupt); }));
}

// Cuts one box of the tiling in two, at a random place, so often: any tiling that guillotine cuts can make.
std::vector<Box> any_tiling(const Sizes& sizes) {
  std::vector<Box> boxes = {whole(sizes)};
  const int cuts = sizes.empty() ? 0 : *uniform(0, 12);
  for (int cut = 0; cut < cuts; ++cut) {
    const auto which = *uniform<size_t>(0, boxes.size());
    const auto d = *uniform<size_t>(0, sizes.size());
    const int64_t first = *uniform<int64_t>(0, boxes[which].sizes[d] + 1);  // an empty part is allowed
    Box second = boxes[which];
    second.offsets[d] += first;
    second.sizes[d] -= first;
    boxes[which].sizes[d] = first;
    boxes.push_back(second);
  }
  return boxes;
}
RC_GTEST_PROP(CheckTiling, AcceptsAnyTilingInAnyOrder, ()) {
  const Sizes sizes = *any_sizes();
  std::vector<Box> boxes = any_tiling(sizes);
  for (size_t i = boxes.size(); i > 1; --i) std::swap(boxes[i - 1], boxes[*uniform<size_t>(0, i)]);
  check_tiling("k", sizes, boxes, Code::corrupt);
}

RC_GTEST_PROP(CheckTiling, RefusesATilingWithOneBoxGoneDoubledMovedOrResized, ()) {
  const Sizes sizes = *any_sizes();
  std::vector<Box> boxes = any_tiling(sizes);
  const auto which = *uniform<size_t>(0, boxes.size());
  RC_PRE(volume(boxes[which]) > 0);
  std::vector<Box> gone = boxes;
  gone.erase(gone.begin() + static_cast<std::ptrdiff_t>(which));
  RC_ASSERT(!tiles(sizes, gone));
  std::vector<Box> doubled = boxes;
  doubled.push_back(boxes[which]);
  RC_ASSERT(!tiles(sizes, doubled));
  if (sizes.empty()) return;
  const auto d = *uniform<size_t>(0, sizes.size());
  const int64_t by = *rc::gen::element<int64_t>(-2, -1, 1, 2);
  std::vector<Box> moved = boxes;
  moved[which].offsets[d] += by;
  RC_ASSERT(!tiles(sizes, moved));
  std::vector<Box> resized = boxes;
  resized[which].sizes[d] += by;
  RC_ASSERT(!tiles(sizes, resized));
}

// The answer is that of counting how often each element is covered.
RC_GTEST_PROP(CheckTiling, AgreesWithCountingEveryElement, ()) {
  const Sizes sizes = {*uniform<int64_t>(1, 4), *uniform<int64_t>(1, 4)};
  const auto boxes = *rc::gen::container<std::vector<Box>>(*uniform<size_t>(0, 5), any_box(sizes));
  bool once = true;
  for (int64_t i = 0; i < sizes[0]; ++i) {
    for (int64_t j = 0; j < sizes[1]; ++j) {
      once = once && std::ranges::count_if(boxes, [&](const Box& box) { return intersect(box, Box{{i, j}, {1, 1}}).has_value(); }) == 1;
    }
  }
  RC_ASSERT(tiles(sizes, boxes) == once);
}

// Slices along one dimension, with a box of any of them moved, resized or gone: the cheap ways to say yes must not say it here.
RC_GTEST_PROP(CheckTiling, SlicesAlongOneDimensionMustFollowEachOther, ()) {
  const Sizes sizes = *any_sizes(1, 3);
  RC_PRE(!sizes.empty());
  const auto axis = *uniform<size_t>(0, sizes.size());
  std::vector<Box> boxes;
  for (int64_t begin = 0; begin < sizes[axis];) {
    Box box = whole(sizes);
    box.offsets[axis] = begin;
    box.sizes[axis] = *uniform<int64_t>(1, sizes[axis] - begin + 1);
    begin += box.sizes[axis];
    boxes.push_back(box);
  }
  check_tiling("k", sizes, boxes, Code::corrupt);
  std::vector<Box> other = boxes;
  Box& box = other[*uniform<size_t>(0, other.size())];
  const auto d = *uniform<size_t>(0, sizes.size());
  (*uniform(0, 2) ? box.offsets : box.sizes)[d] += *rc::gen::element<int64_t>(-1, 1);
  RC_ASSERT(!tiles(sizes, other));
}

RC_GTEST_PROP(CheckTiling, RangesOfAFlatBufferMustFollowEachOther, ()) {
  const Sizes sizes = *any_sizes(1);
  const int64_t numel = volume(sizes);
  std::vector<Box> boxes;
  for (int64_t begin = 0; begin < numel;) {
    const int64_t end = *uniform<int64_t>(begin + 1, numel + 1);
    for (const Box& box : boxes_of_range(sizes, begin, end)) boxes.push_back(box);
    begin = end;
  }
  check_tiling("k", sizes, boxes, Code::corrupt);
  boxes.erase(boxes.begin() + *uniform<std::ptrdiff_t>(0, std::ssize(boxes)));
  RC_ASSERT(!tiles(sizes, boxes));
}

// Sums of such numbers would overflow.
TEST(CheckTiling, AnEmptyBoxInTheFarCornerOfALargeTensorIsNoBurden) {
  constexpr int64_t side = int64_t{1} << 31;
  check_tiling("k", Sizes{side, side}, {{{0, 0}, {side, side}}, {{side, side}, {0, 0}}}, Code::corrupt);
}

TEST(CheckTiling, NamesTheKeyAndTheTwoThatOverlap) {
  const Fault fault = fault_of_tiling(Sizes{4, 4}, {{{0, 0}, {3, 4}}, {{2, 0}, {2, 4}}}, Code::invalid_argument);
  EXPECT_EQ(fault.code, Code::invalid_argument);
  EXPECT_EQ(fault.what, "boxes [0:3, 0:4] and [2:4, 0:4] of 'a.weight' overlap");
}

TEST(CheckTiling, NamesTheBoxThatLiesOutside) {
  const Fault fault = fault_of_tiling(Sizes{4}, {{{2}, {3}}});
  EXPECT_EQ(fault.what, "box [2:5] of 'a.weight' lies outside its shape [4]");
  EXPECT_THAT(fault_of_tiling(Sizes{4}, {{{0, 0}, {4, 1}}}).what, HasSubstr("outside"));
}

TEST(CheckTiling, SaysHowMuchOfAHoleThereIs) {
  EXPECT_EQ(fault_of_tiling(Sizes{4, 4}, {{{0, 0}, {3, 4}}}).what, "the boxes of 'a.weight' hold 12 of the 16 elements of shape [4, 4]");
  EXPECT_THAT(fault_of_tiling(Sizes{}, {}).what, HasSubstr("hold 0 of the 1 elements"));
}

TEST(CheckTiling, AnOverlapThatMakesUpForAHoleIsNoTiling) {
  EXPECT_THAT(fault_of_tiling(Sizes{4}, {{{0}, {2}}, {{1}, {2}}}).what, HasSubstr("overlap"));
  EXPECT_THAT(fault_of_tiling(Sizes{}, {{}, {}}).what, HasSubstr("overlap"));
}

TEST(CheckTiling, ATensorWithoutElementsNeedsNoBoxAndTakesEmptyOnes) {
  check_tiling("k", Sizes{0, 3}, {}, Code::corrupt);
  check_tiling("k", Sizes{0, 3}, {{{0, 0}, {0, 3}}, {{0, 3}, {0, 0}}}, Code::corrupt);
  check_tiling("k", Sizes{2}, {{{0}, {2}}, {{2}, {0}}, {{1}, {0}}}, Code::corrupt);
}

TEST(CheckTiling, AShapeThatOverflowsOrIsNegativeNamesTheKey) {
  constexpr int64_t big = int64_t{1} << 40;
  for (const Sizes& sizes : {Sizes{big, big}, Sizes{-1}, Sizes{0, big, big}}) {
    const Fault fault = fault_of_tiling(sizes, {});
    EXPECT_EQ(fault.code, Code::corrupt);
    EXPECT_THAT(fault.what, HasSubstr("'a.weight'"));
  }
}

TEST(CheckTiling, VolumesThatTogetherOverflowAreAnOverlap) {
  const Sizes sizes = {int64_t{1} << 62};
  EXPECT_THAT(fault_of_tiling(sizes, std::vector<Box>(4, whole(sizes))).what, HasSubstr("overlap"));
}

// A quadratic check would take so long on these that the time limit of the whole program catches it.
TEST(CheckTiling, ManyChunksAlongOneDimensionAreNoBurden) {
  constexpr int64_t chunks = 400'000;
  std::vector<Box> boxes;
  for (int64_t i = 0; i < chunks; ++i) boxes.push_back({{i * 3, 0}, {3, 5}});
  check_tiling("k", Sizes{chunks * 3, 5}, boxes, Code::corrupt);
  std::swap(boxes.front(), boxes.back());
  boxes.back().sizes[0] = 4;  // reaches into its neighbour
  EXPECT_THAT(fault_of_tiling(Sizes{chunks * 3, 5}, boxes).what, HasSubstr("overlap"));
}

TEST(CheckTiling, AGridInThreeDimensionsIsNoBurdenEvenWithOneBoxWrong) {
  constexpr int64_t n = 70;
  std::vector<Box> boxes;
  for (int64_t i = 0; i < n * n * n; ++i) boxes.push_back({{i / n / n, i / n % n, i % n}, {1, 1, 1}});
  check_tiling("k", Sizes{n, n, n}, boxes, Code::corrupt);
  boxes.back() = {{35, 35, 35}, {1, 1, 1}};
  EXPECT_THAT(fault_of_tiling(Sizes{n, n, n}, boxes).what, AllOf(HasSubstr("'a.weight'"), HasSubstr("overlap")));
}

// --- validate

Manifest sound() {
  Manifest manifest;
  manifest.entries["t"] = {
      {"t"},
      TensorEntry{DType::float32, {4, 2}, {{{{0, 0}, {3, 2}}, {"__0_0.distcp", 0, 100}}, {{{3, 0}, {1, 2}}, {"__1_0.distcp", 0, 90}}}}};
  manifest.entries["o"] = {{"o"}, ObjectEntry{{"__0_0.distcp", 100, 20}}};
  return manifest;
}
TensorEntry& tensor(Manifest& manifest) { return std::get<TensorEntry>(manifest.entries.at("t").is); }
Extent& object(Manifest& manifest) { return std::get<ObjectEntry>(manifest.entries.at("o").is).at; }

Fault fault_of_manifest(const Manifest& manifest) {
  const auto outcome = capture([&] { validate(manifest); });
  EXPECT_FALSE(outcome) << "this manifest must be refused";
  EXPECT_EQ(outcome.fault.code, Code::corrupt);
  return outcome.fault;
}

TEST(Validate, AcceptsASoundManifest) {
  validate(sound());
  validate({});
}

TEST(Validate, RefusesChunksThatDoNotTileTheirTensor) {
  Manifest manifest = sound();
  tensor(manifest).chunks.pop_back();
  EXPECT_THAT(fault_of_manifest(manifest).what, AllOf(HasSubstr("'t'"), HasSubstr("hold 6 of the 8")));
  tensor(manifest).sizes = {3, 1};
  EXPECT_THAT(fault_of_manifest(manifest).what, HasSubstr("outside"));
}

TEST(Validate, RefusesAFileNameThatLeadsOutOfTheDirectory) {
  const std::string nul("a\0b", 3);
  for (const std::string& file :
       {std::string(), std::string("/etc/passwd"), std::string("../x"), std::string("a/../../x"), std::string(".."), std::string("."),
        std::string("a//b"), std::string("a/"), std::string("a\\b"), std::string("a/./b"), nul}) {
    Manifest manifest = sound();
    tensor(manifest).chunks[1].at.file = file;
    EXPECT_THAT(fault_of_manifest(manifest).what, AllOf(HasSubstr("'t'"), HasSubstr("unsafe file name"))) << file;
    manifest = sound();
    object(manifest).file = file;
    EXPECT_THAT(fault_of_manifest(manifest).what, AllOf(HasSubstr("'o'"), HasSubstr("unsafe file name"))) << file;
  }
  for (const char* file : {"a/b", "..a", "a..", ".hidden", "..."}) {
    Manifest manifest = sound();
    object(manifest).file = file;
    validate(manifest);
  }
}

TEST(Validate, RefusesExtentsThatNoFileCanHave) {
  for (const auto& [offset, length] :
       {std::pair<int64_t, int64_t>(-1, 5), {0, -1}, {INT64_MAX, 1}, {1, INT64_MAX}, {INT64_MIN, INT64_MIN}}) {
    Manifest manifest = sound();
    object(manifest).offset_bytes = offset;
    object(manifest).length_bytes = length;
    EXPECT_THAT(fault_of_manifest(manifest).what, HasSubstr("'o'")) << offset << " " << length;
  }
}

TEST(Validate, RefusesATensorWhoseBytesOverflow) {
  Manifest manifest;
  const Sizes sizes = {int64_t{1} << 61};
  manifest.entries["t"] = {{"t"}, TensorEntry{DType::float32, sizes, {{whole(sizes), {"f", 0, 1}}}}};
  EXPECT_THAT(fault_of_manifest(manifest).what, HasSubstr("'t'"));
  tensor(manifest).dtype = DType::int8;
  validate(manifest);
}

}  // namespace
}  // namespace tessera
