#include "tessera/comm/thread_comm.h"

#include "tests/support/comm_conformance.h"

namespace tessera {
namespace {

INSTANTIATE_TEST_SUITE_P(Threads, CommConformance, testing::Values(CommKind{"threads", thread_comms}),
                         [](const auto& kind) { return kind.param.name; });

}  // namespace
}  // namespace tessera
