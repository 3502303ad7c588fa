// tessera/comm/socket/hello.h: how a follower introduces itself, and what the leader makes of it.
#pragma once

#include "tessera/comm/socket/wire.h"

namespace tessera {

Message hello_of(int rank, int size);
// The newcomer's rank; throws Error(mismatch) if it belongs to another job or speaks another protocol.
int rank_of_hello(const Message& hello, int size);

}  // namespace tessera
