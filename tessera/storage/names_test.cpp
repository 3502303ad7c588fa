#include "tessera/storage/names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tessera/base/digest.h"

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Names, AStagingNameIsNoTrashNameAndTheOtherWayRound) {
  EXPECT_TRUE(is_staging_name(staging_name("abc")));
  EXPECT_FALSE(is_trash_name(staging_name("abc")));
  EXPECT_TRUE(is_trash_name(trash_name()));
  EXPECT_FALSE(is_staging_name(trash_name()));
  EXPECT_NE(trash_name(), trash_name());
}

TEST(Names, WhatIsPublishedOrSomebodyElsesIsNeitherStagingNorTrash) {
  for (const char* name :
       {"step-00000001", ".tessera", ".tessera-", "tessera-1", "x.tessera-1", ".metadata", "__0_0.distcp", ".Tessera-1", ""}) {
    EXPECT_FALSE(is_staging_name(name)) << name;
    EXPECT_FALSE(is_trash_name(name)) << name;
  }
}

TEST(Names, OnlyWhatASaveNamesIsALeftover) {
  EXPECT_TRUE(is_leftover_name(staging_name(random_id())));
  EXPECT_TRUE(is_leftover_name(trash_name()));
  for (const std::string& name : {std::string(".tessera-abc"), std::string(".tessera-"), std::string(".tessera-trash-"), aside_name(),
                                  trash_name() + "0", std::string("step-00000001"), std::string()}) {
    EXPECT_FALSE(is_leftover_name(name)) << name;
  }
  EXPECT_FALSE(is_staging_name(aside_name()));
  EXPECT_FALSE(is_trash_name(aside_name()));
}

TEST(Names, RefusesAnIdThatWouldNotNameAStagingDirectory) {
  for (const char* id : {"", "a/b", "/", "trash-1", "../a"}) EXPECT_THROW(staging_name(id), Error) << id;
}

TEST(Names, APathIsItsNames) {
  EXPECT_THAT(names_of(""), IsEmpty());
  EXPECT_THAT(names_of("a"), ElementsAre("a"));
  EXPECT_THAT(names_of("a/.b/..c"), ElementsAre("a", ".b", "..c"));
  for (const char* path : {"/", "/a", "a/", "a//b", ".", "..", "a/..", "./a"}) EXPECT_THROW(names_of(path), Error) << path;
}

TEST(Names, SplitsOffTheLastName) {
  EXPECT_EQ(split("a/b/c").parent, "a/b");
  EXPECT_EQ(split("a/b/c").name, "c");
  EXPECT_EQ(split("c").parent, "");
  EXPECT_EQ(split("c").name, "c");
}

}  // namespace
}  // namespace tessera
