// Ten lines of somebody else's: the keys of a checkpoint and the bytes of its first tensor.
#include <tessera/checkpoint/checkpoint.h>

#include <cstdio>

int main(int, char** argv) {
  const auto checkpoint = tessera::Checkpoint::open(argv[1]);
  for (const std::string& key : checkpoint.keys()) std::printf("%s\n", key.c_str());
  const auto state = checkpoint.load({.exclude = checkpoint.objects()});
  std::printf("%zu tensors in memory\n", state.leaves.size());
}
