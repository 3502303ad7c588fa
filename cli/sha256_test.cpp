#include "cli/sha256.h"

#include <gtest/gtest.h>

#include "tessera/base/bytes.h"

namespace tessera::cli {
namespace {

TEST(Sha256, MatchesTheStandardsExamples) {
  EXPECT_EQ(Sha256().finish(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  Sha256 abc;
  abc.add(as_bytes("abc"));
  EXPECT_EQ(abc.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, PartsMakeTheSameDigestAsTheWhole) {
  Sha256 parts;
  parts.add(as_bytes("a"));
  parts.add({});
  parts.add(as_bytes("bc"));
  EXPECT_EQ(parts.finish(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace tessera::cli
