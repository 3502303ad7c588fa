#include "tessera/transfer/staged_write.h"

#include <algorithm>
#include <deque>
#include <thread>

#include "tessera/base/guarded.h"
#include "tessera/base/trace.h"

namespace tessera {
namespace {

// Blocks on their way from the copying to the writing thread. The ring bounds how many there are. The copying thread keeps them to itself
// until it has ended or has filled the ring, so that nobody is woken before; from then on the belt runs.
class Belt {
 public:
  explicit Belt(size_t fills_ring) : fills_ring_(fills_ring) {}
  void put(Block block) {
    kept_.push_back(std::move(block));
    if (runs_ || kept_.size() >= fills_ring_) pass_on();
  }
  // No more will come; with a fault, because the copy failed. The first word counts.
  void end(std::optional<Fault> fault) {
    if (!fault) pass_on();
    state_.with([&](State& state) {
      if (std::exchange(state.ended, true)) return;
      state.fault = std::move(fault);
    });
  }
  // The next block; nothing after the last. Throws the fault that the copy ended with.
  std::optional<Block> take() {
    std::optional<Block> block;
    state_.when(
        Deadline::after(Milliseconds::max()), [](const State& state) { return state.ended || !state.blocks.empty(); },
        [&](State& state) {
          if (state.fault) throw Error(*state.fault);
          if (state.blocks.empty()) return;
          block = std::move(state.blocks.front());
          state.blocks.pop_front();
        });
    return block;
  }

 private:
  struct State {
    std::deque<Block> blocks;
    bool ended = false;
    std::optional<Fault> fault;
  };
  void pass_on() {
    runs_ = true;
    state_.with([&](State& state) {
      while (!kept_.empty()) {
        state.blocks.push_back(std::move(kept_.front()));
        kept_.pop_front();
      }
    });
  }
  const size_t fills_ring_;
  std::deque<Block> kept_;  // the copying thread's, as is what follows
  bool runs_ = false;
  Guarded<State> state_;
};

}  // namespace

Proof write_shards_staged(const RankWrites& writes, const Described& state, Storage& storage, const Path& directory, SlabRing& ring,
                          const StagedWrite& work) {
  const auto tell_staged = [&] {
    if (work.staged) work.staged();
  };
  if (writes.items.empty()) {
    tell_staged();
    return {};
  }
  const auto check = [&] {
    if (work.check) work.check();
  };
  StateShards source(state);
  ShardFile file(writes, source, storage, directory, work.write);
  Belt belt(static_cast<size_t>(ring.capacity_bytes() / ring.slab_bytes() - 1));  // the copy holds one
  Outcome<Proof> written;
  std::jthread writer([&] {  // joined whatever happens
    name_trace_row(writes.file, ", writer");
    if (work.write.begin_thread) work.write.begin_thread();
    written = capture([&] {
      while (auto block = belt.take()) {
        check();
        file.blocks().take(std::move(*block));
      }
      return file.close();
    });
    // The copy may wait for slabs that nobody will give back.
    if (written) return;
    auto told = capture([&] { return written.fault; });
    ring.stop(told ? std::move(*told.value) : Fault{.code = Code::no_memory});
  });
  // Should even telling of a failure fail, the writer must not wait for ever.
  const struct LastWord {
    Belt& belt;
    ~LastWord() { belt.end(Fault{.code = Code::no_memory}); }
  } last_word{belt};
  auto copied = capture([&] {
    const TraceSpan span("copy the state", writes.file_bytes);
    const auto pass_on = [&](Block block) {
      check();
      belt.put(std::move(block));
    };
    // The writer begins when the copy is done, or the ring full: what is copied first has left the cache by then.
    constexpr int64_t more_than_cache = int64_t{32} << 20;
    BlockCutter cutter(ring, false, pass_on, std::min(ring.capacity_bytes(), writes.file_bytes) > more_than_cache);
    file.cut(cutter);
    tell_staged();
    belt.end(std::nullopt);
  });
  if (!copied) belt.end(std::move(copied.fault));
  writer.join();
  return std::move(written).or_throw();
}

}  // namespace tessera
