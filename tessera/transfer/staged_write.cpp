#include "tessera/transfer/staged_write.h"

#include <algorithm>
#include <deque>
#include <thread>

#include "tessera/base/guarded.h"
#include "tessera/base/trace.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

// Blocks on their way from the copying to the writing thread. The ring bounds how many there are. Nothing is taken before the copy has
// ended or has filled the ring; from then on the belt runs.
class Belt {
 public:
  explicit Belt(int64_t fills_ring) : fills_ring_(fills_ring) {}
  void put(Block block) {
    state_.with([&](State& state) { state.blocks.push_back(std::move(block)); });
  }
  // No more will come; with a fault, because the copy failed. The first word counts.
  void end(std::optional<Fault> fault) noexcept {
    state_.with([&](State& state) {
      if (std::exchange(state.ended, true)) return;
      state.fault = std::move(fault);
    });
  }
  // The next block; nothing after the last. Throws the fault that the copy ended with.
  std::optional<Block> take() {
    std::optional<Block> block;
    state_.when(
        Deadline::after(Milliseconds::max()),
        [&](const State& state) {
          return state.ended || (state.runs && !state.blocks.empty()) || static_cast<int64_t>(state.blocks.size()) >= fills_ring_;
        },
        [&](State& state) {
          state.runs = true;
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
    bool runs = false;
    bool ended = false;
    std::optional<Fault> fault;
  };
  const int64_t fills_ring_;
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
  FileLayout layout;
  lay_out(writes, source, layout);
  Throttle throttle(work.most_bytes_per_second);
  const auto tell_written = [&](int64_t bytes) {
    if (work.progress) work.progress(bytes, writes.file_bytes);
  };
  auto out = storage.create(below(directory, writes.file));
  const WriteMode mode = out->prepare(writes.file_bytes, work.mode) ? work.mode : WriteMode::buffered;
  BlockFile file(std::move(out), layout,
                 {.threads = work.threads, .written = tell_written, .throttle = &throttle, .begin_thread = work.begin_thread});
  Belt belt(ring.capacity_bytes() / ring.slab_bytes() - 1);  // the copy holds one
  Outcome<int64_t> written;
  std::jthread writer([&] {  // joined whatever happens
    name_trace_row(writes.file, ", writer");
    if (work.begin_thread) work.begin_thread();
    written = capture([&] {
      while (auto block = belt.take()) {
        check();
        file.take(std::move(*block));
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
    cut_shards(writes, layout, source, cutter);
    tell_staged();
  });
  belt.end(copied ? std::nullopt : std::optional(std::move(copied.fault)));
  writer.join();
  const int64_t length_bytes = std::move(written).or_throw();
  return {writes.file, length_bytes, file.digests(), digest(encode(writes)), mode};
}

}  // namespace tessera
