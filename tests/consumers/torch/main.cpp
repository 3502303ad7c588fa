// Ten lines of a trainer's: one layer, sharded over two ranks that are threads, saved.
#include <tessera/checkpoint/checkpoint.h>
#include <tessera/checkpoint/save.h>
#include <tessera/collectives/job.h>
#include <tessera/fsdp/fsdp.h>
#include <tessera/libtorch/state.h>
#include <torch/nn/modules/linear.h>

#include <cstdio>

int main(int, char** argv) {
  tessera::run_ranks(2, [&](tessera::Job& job) {
    auto model = tessera::fsdp(job, [] { return torch::nn::Linear(5, 7); });
    tessera::State train = tessera::state({{"model", model}});
    tessera::save(job, argv[1], train);
  });
  for (const std::string& key : tessera::Checkpoint::open(argv[1]).keys()) std::printf("%s ", key.c_str());
}
