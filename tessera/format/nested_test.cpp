#include "tessera/format/nested.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::format {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

Value dict(std::vector<std::pair<Value, Value>> items) { return Value::Mapping{std::move(items), false}; }
Value tensor() { return Value::Tensor{DType::uint8, {1}, {std::byte{1}}}; }

// What is wrong with the nesting of these paths, or "".
std::string wrong_with(const std::vector<std::pair<std::string, KeyPath>>& paths) {
  std::map<std::string, const KeyPath*> by_key;
  for (const auto& [key, path] : paths) by_key.emplace(key, &path);
  try {
    check_paths(by_key, Code::corrupt);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::corrupt);
    return error.fault().what;
  }
  return "";
}

TEST(Paths, OfOneNestingAreFine) {
  EXPECT_EQ(wrong_with({}), "");
  EXPECT_EQ(wrong_with({{"a.b", {"a", "b"}}, {"a.c", {"a", "c"}}, {"l.0", {"l", int64_t{0}}}, {"l.1.x", {"l", int64_t{1}, "x"}}}), "");
  EXPECT_EQ(wrong_with({{"a.b", {"a.b"}}, {"a", {"a"}}}), "") << "a key may hold dots";
  EXPECT_EQ(wrong_with({{"x", {"completely", "different"}}}), "") << "key and path may disagree";
  EXPECT_EQ(wrong_with({{"empty name", {""}}, {"l.3", {"l", int64_t{3}}}}), "") << "empty dicts before it left no trace";
}

TEST(Paths, ThatCannotBeAreRefused) {
  EXPECT_THAT(wrong_with({{"k", {}}}), HasSubstr("'k' is empty"));
  EXPECT_THAT(wrong_with({{"k", {"a", int64_t{-1}}}}), HasSubstr("index"));
  EXPECT_THAT(wrong_with({{"k", {"a", int64_t{1} << 40}}}), HasSubstr("index"));
  EXPECT_THAT(wrong_with({{"1", {"a"}}, {"2", {"a", "b"}}}), HasSubstr("'2' goes through"));
  EXPECT_THAT(wrong_with({{"1", {"a", "b"}}, {"2", {"a"}}}), HasSubstr("'2' is that of another"));
  EXPECT_THAT(wrong_with({{"1", {"a"}}, {"2", {"a"}}}), HasSubstr("'2' is that of another"));
  EXPECT_THAT(wrong_with({{"1", {"a", "b"}}, {"2", {"a", int64_t{0}}}}), HasSubstr("'2' goes through"));
  EXPECT_THAT(wrong_with({{"1", {"a"}}, {"2", {"a", ""}}}), HasSubstr("'2' goes through"))
      << "a leaf has no inner names, not even an empty one";
  EXPECT_THAT(wrong_with({{"k", KeyPath(101, "a")}}), HasSubstr("too deeply"));
  EXPECT_EQ(wrong_with({{"k", KeyPath(100, "a")}}), "");
}

TEST(Paths, HolesInListsAreLimitedTogether) {
  std::vector<std::pair<std::string, KeyPath>> paths;
  for (int i = 0; i < 100; ++i) paths.emplace_back(std::to_string(i), KeyPath{"list" + std::to_string(i), int64_t{900}});
  EXPECT_THAT(wrong_with(paths), HasSubstr("holes")) << "each list alone is fine";
  EXPECT_EQ(wrong_with({paths.front()}), "");
}

TEST(Flatten, DescendsAsStockDoes) {
  const Value state = dict({{"plain", Value::list({1, 2})},
                            {"mixed", Value::list({1, dict({{"k", 2}}), Value::list({})})},
                            {"deep", Value::list({Value::list({tensor()}), 3})},
                            {"tuple", Value::tuple({tensor()})},
                            {"empty", dict({})},
                            {"dots.in", dict({{"a.b", 4}})},
                            {5, dict({{true, 6}, {Value(), 7}})}});
  const auto leaves = flatten(state);
  EXPECT_THAT(leaves, ElementsAre(Pair(KeyPath{"plain"}, Value::list({1, 2})), Pair(KeyPath{"mixed", int64_t{0}}, Value(1)),
                                  Pair(KeyPath{"mixed", int64_t{1}, "k"}, Value(2)), Pair(KeyPath{"mixed", int64_t{2}}, Value::list({})),
                                  Pair(KeyPath{"deep", int64_t{0}, int64_t{0}}, tensor()), Pair(KeyPath{"deep", int64_t{1}}, Value(3)),
                                  Pair(KeyPath{"tuple"}, Value::tuple({tensor()})), Pair(KeyPath{"dots.in", "a.b"}, Value(4)),
                                  Pair(KeyPath{"5", "True"}, Value(6)), Pair(KeyPath{"5", "None"}, Value(7))));
  EXPECT_THAT(flatten(dict({})), IsEmpty());
  EXPECT_THROW(flatten(dict({{Value::tuple({1, 2}), 3}})), Error);
  EXPECT_THROW(flatten(dict({{1.5, 3}})), Error);
}

TEST(Unflatten, IsTheWayBack) {
  const Value state = dict({{"z", dict({{"b", 1}, {"a", 2}})}, {"l", Value::list({dict({{"x", 3}}), 4})}});
  EXPECT_EQ(unflatten(flatten(state)), state) << "in the order in which keys first came";
  EXPECT_EQ(unflatten(flatten(Value(5))), Value(5));
  EXPECT_EQ(unflatten({}), dict({}));
}

TEST(Unflatten, FillsHolesWithNone) {
  EXPECT_EQ(unflatten({{{"l", int64_t{2}}, Value(1)}}), dict({{"l", Value::list({Value(), Value(), 1})}}));
}

TEST(Unflatten, RefusesPathsThatCannotBe) {
  EXPECT_THROW(unflatten({{{"a"}, Value(1)}, {{"a", "b"}, Value(2)}}), Error);
  EXPECT_THROW(unflatten({{{"a"}, Value(1)}, {{"a"}, Value(2)}}), Error);
  EXPECT_THROW(unflatten({{{"a", int64_t{-1}}, Value(1)}}), Error);
  EXPECT_THROW(unflatten({{{"a", int64_t{1} << 40}, Value(1)}}), Error);
}

TEST(Unflatten, TakesManyKeys) {
  std::vector<std::pair<KeyPath, Value>> leaves;
  for (int i = 0; i < 20'000; ++i) leaves.emplace_back(KeyPath{"d", std::to_string(i)}, Value(i));
  const Value nested = unflatten(leaves);
  EXPECT_EQ(flatten(nested), leaves);
}

}  // namespace
}  // namespace tessera::format
