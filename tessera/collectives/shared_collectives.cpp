#include "tessera/collectives/shared_collectives.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "tessera/base/stream_copy.h"
#include "tessera/base/trace.h"
#include "tessera/collectives/arguments.h"
#include "tessera/collectives/collective_operation.h"
#include "tessera/collectives/reduction.h"
#include "tessera/collectives/thread_collectives.h"

namespace tessera {
namespace {

constexpr int64_t at_once_bytes = int64_t{32} << 10;  // an all_reduce of no more is one exchange: each rank reduces all of it
constexpr size_t past_cache_bytes = size_t{64} << 20;  // what is larger is not looked at again before it left the cache

constexpr Milliseconds word_of_mouth(2000);  // how long the control plane may take to say why a rank left

// A rank's memory of an operation, and the tensors that hold it.
struct Buffers {
  at::Tensor whole_tensor;
  at::Tensor shard_tensor;
  std::byte* whole = nullptr;
  std::byte* shard = nullptr;
};

Buffers buffers_of(const at::Tensor& whole, const at::Tensor& shard) {
  Buffers made{whole, shard};
  made.whole = static_cast<std::byte*>(whole.mutable_data_ptr());
  if (shard.defined()) made.shard = static_cast<std::byte*>(shard.mutable_data_ptr());
  return made;
}

// Elements [begin, end) of something that is handed over piece by piece.
struct Piece {
  int64_t begin;
  int64_t end;
  int64_t size() const { return end - begin; }
};

// The ways in which an operation's bytes go through the slots, a rank's side of each. No tensors here, and no threads.
class Exchanger {
 public:
  Exchanger(SharedExchange& exchange, const Members& members) : exchange_(exchange), members_(members) {}

  void carry_out(const CollectiveOperation& what, const Buffers& mine, const SharedExchange::Watch& watch) {
    what_ = &what;
    watch_ = &watch;
    said_ = heard_ = false;
    each_ = static_cast<int64_t>(c10::elementSize(what.dtype));
    switch (what.kind) {
      case CollectiveKind::all_gather: return all_gather(mine);
      case CollectiveKind::reduce_scatter: return reduce_scatter(mine);
      case CollectiveKind::all_reduce:
        return what.numel * each_ <= std::min(at_once_bytes, slot_bytes()) ? reduce_at_once(mine) : all_reduce(mine);
      case CollectiveKind::broadcast: return broadcast(mine);
    }
  }

 private:
  int size() const { return members_.size(); }
  int place() const { return members_.mine; }
  int64_t slot_bytes() const { return static_cast<int64_t>(exchange_.slot_bytes()); }

  // Calls `step` for each piece of at most `most` elements; once, with nothing, where there are none, so that ranks meet all the same.
  template <class Step>
  void for_each_piece(int64_t numel, int64_t most, Step step) const {
    int64_t begin = 0;
    do {
      const Piece piece{begin, std::min(numel, begin + most)};
      step(piece);
      begin = piece.end;
    } while (begin < numel);
  }

  std::byte* open() {
    std::byte* slot = exchange_.open(*watch_);
    if (!std::exchange(said_, true)) exchange_.say(*what_);
    return slot;
  }

  // All slots of the next step, in rank order. With an operation's first step, what it is to each rank is held against what it is here.
  void hear(std::vector<const std::byte*>& slots) {
    slots.resize(static_cast<size_t>(size()));
    for (int p = 0; p < size(); ++p) slots[static_cast<size_t>(p)] = exchange_.await(p, *watch_);
    if (std::exchange(heard_, true)) return;
    for (int p = 0; p < size(); ++p) {
      if (p != place() && exchange_.said(p) != *what_)
        throw Error(different_ways(members_.job_rank(p), exchange_.said(p), members_.job_rank(place()), *what_));
    }
  }

  // Into a slot: from there it is read at once, so it is to stay in the cache.
  static void write(std::byte* slot, const std::byte* from, int64_t bytes) {
    if (bytes > 0) std::memcpy(slot, from, static_cast<size_t>(bytes));
  }
  void read(std::byte* to, const std::byte* slot, int64_t bytes, size_t of_bytes) const {
    if (bytes <= 0) return;
    if (of_bytes > past_cache_bytes) stream_copy(to, slot, static_cast<size_t>(bytes));
    else std::memcpy(to, slot, static_cast<size_t>(bytes));
  }

  void all_gather(const Buffers& mine) {
    const int64_t shard_bytes = what_->numel * each_;
    const auto whole_bytes = static_cast<size_t>(shard_bytes * size());
    std::byte* own = mine.whole + place() * shard_bytes;
    for_each_piece(shard_bytes, slot_bytes(), [&](Piece piece) {
      std::byte* slot = open();
      if (size() > 1) write(slot, mine.shard + piece.begin, piece.size());
      exchange_.publish();
      if (own != mine.shard) read(own + piece.begin, mine.shard + piece.begin, piece.size(), whole_bytes);
      hear(slots_);
      for (int p = 0; p < size(); ++p) {
        if (p != place()) read(mine.whole + p * shard_bytes + piece.begin, slots_[static_cast<size_t>(p)], piece.size(), whole_bytes);
      }
      exchange_.release();
    });
  }

  void broadcast(const Buffers& mine) {
    const int64_t bytes = what_->numel * each_;
    for_each_piece(bytes, slot_bytes(), [&](Piece piece) {
      std::byte* slot = open();
      if (place() == what_->root) write(slot, mine.whole + piece.begin, piece.size());
      exchange_.publish();
      hear(slots_);
      if (place() != what_->root)
        read(mine.whole + piece.begin, slots_[static_cast<size_t>(what_->root)], piece.size(), static_cast<size_t>(bytes));
      exchange_.release();
    });
  }

  // A slot holds a part for each rank, so many elements apart.
  int64_t part_elements() const { return slot_bytes() / size() / 64 * 64 / each_; }

  // The reduction of what lies `offset` elements into every slot, this rank's own being at `own`.
  void reduce_slots(std::byte* out, const std::byte* own, int64_t offset, int64_t count) {
    if (count <= 0) return;
    parts_.clear();
    for (int p = 0; p < size(); ++p) parts_.push_back(p == place() ? own : slots_[static_cast<size_t>(p)] + offset * each_);
    reduce_in_order(out, parts_, count, what_->dtype, what_->how);
  }

  void reduce_scatter(const Buffers& mine) {
    const int64_t part = part_elements();
    for_each_piece(what_->numel, part, [&](Piece piece) {
      std::byte* slot = open();
      const auto in_whole = [&](int p) { return mine.whole + (p * what_->numel + piece.begin) * each_; };
      for (int p = 0; p < size(); ++p) {
        if (p != place()) write(slot + p * part * each_, in_whole(p), piece.size() * each_);
      }
      exchange_.publish();
      hear(slots_);
      reduce_slots(mine.shard + piece.begin * each_, in_whole(place()), place() * part, piece.size());
      exchange_.release();
    });
  }

  void reduce_at_once(const Buffers& mine) {
    std::byte* slot = open();
    write(slot, mine.whole, what_->numel * each_);
    exchange_.publish();
    hear(slots_);
    reduce_slots(mine.whole, mine.whole, 0, what_->numel);
    exchange_.release();
  }

  // Of each piece every rank reduces its share, then all take the shares of all. A piece is handed out one step before the reduced shares
  // of the piece before it, so that no rank waits for another's arithmetic: handed out 0, 1, reduced 0, handed out 2, reduced 1, …
  void all_reduce(const Buffers& mine) {
    const int64_t part = part_elements();
    std::vector<Piece> pieces;
    for_each_piece(what_->numel, part * size(), [&](Piece piece) { pieces.push_back(piece); });
    const auto share = [&](const Piece& piece, int p) {
      return Piece{std::min(piece.end, piece.begin + p * part), std::min(piece.end, piece.begin + (p + 1) * part)};
    };
    const auto at = [&](int64_t element) { return mine.whole + element * each_; };
    const auto hand_out = [&](const Piece& piece) {
      std::byte* slot = open();
      for (int p = 0; p < size(); ++p) {
        const Piece theirs = share(piece, p);
        if (p != place()) write(slot + p * part * each_, at(theirs.begin), theirs.size() * each_);
      }
      exchange_.publish();
    };
    const auto reduce_share = [&](const Piece& piece) {
      hear(slots_);
      const Piece own = share(piece, place());
      reduce_slots(at(own.begin), at(own.begin), place() * part, own.size());
      exchange_.release();
    };
    hand_out(pieces.front());
    reduce_share(pieces.front());
    for (size_t i = 0; i < pieces.size(); ++i) {
      const bool more = i + 1 < pieces.size();
      if (more) hand_out(pieces[i + 1]);
      const Piece own = share(pieces[i], place());
      write(open(), at(own.begin), own.size() * each_);
      exchange_.publish();
      if (more) reduce_share(pieces[i + 1]);
      hear(slots_);
      for (int p = 0; p < size(); ++p) {
        const Piece theirs = share(pieces[i], p);
        if (p != place()) read(at(theirs.begin), slots_[static_cast<size_t>(p)], theirs.size() * each_, 0);
      }
      exchange_.release();
    }
  }

  SharedExchange& exchange_;
  const Members& members_;
  const CollectiveOperation* what_ = nullptr;
  const SharedExchange::Watch* watch_ = nullptr;
  int64_t each_ = 1;
  bool said_ = false;
  bool heard_ = false;
  std::vector<const std::byte*> slots_;
  std::vector<const void*> parts_;
};

// An operation from its launch to its end.
struct Launched {
  CollectiveOperation what;
  Buffers buffers;
  std::optional<Outcome<Done>> ended = {};
};

// What a rank's thread and the rank itself share: the operations under way, which one of them at a time carries out.
class Engine {
 public:
  Engine(SharedRegion region, Comm& control, Members members, Milliseconds deadline, const SharedSlots& slots)
      : control_(control),
        members_(std::move(members)),
        deadline_(deadline),
        exchange_(std::move(region), members_.mine, members_.size(), slots),
        exchanger_(exchange_, members_),
        worker_([this] { work(); }) {}
  ~Engine() { stop(); }

  // What is under way is given up; Works may still be asked how they ended. The control plane is not used any more.
  void stop() {
    if (!worker_.joinable()) return;
    stopping_ = true;
    exchange_.leave();
    {
      const std::lock_guard lock(mutex_);
      if (!broken_) broken_ = Fault{.code = Code::aborted, .what = "the Collectives was destroyed before the operation ended"};
      has_work_.notify_all();
    }
    worker_.join();
    const std::lock_guard lock(mutex_);
    fail_all();
  }

  const Members& members() const { return members_; }
  Comm& control() const { return control_; }
  Milliseconds deadline() const { return deadline_; }

  std::shared_ptr<Launched> launch(CollectiveOperation what, Buffers buffers) {
    what.number = launched_++;
    if (auto fault = control_.failure()) throw Error(met_in(std::move(*fault), what));
    auto launched = std::make_shared<Launched>(what, std::move(buffers));
    const std::lock_guard lock(mutex_);
    if (broken_) throw Error(*broken_);
    under_way_.push_back(launched);
    has_work_.notify_one();
    return launched;
  }

  // Helps where the thread has not begun: it may have to be woken first, and this rank has nothing else to do.
  void wait(const Launched& launched) {
    std::unique_lock lock(mutex_);
    while (!launched.ended) {
      if (busy_) ended_.wait(lock);
      else carry_out_next(lock);
    }
    if (!*launched.ended) throw Error(launched.ended->fault);
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      if (busy_ || under_way_.empty() || broken_) {
        has_work_.wait(lock);
        continue;
      }
      name_rank_row(members_.job_rank(members_.mine), ", collectives");
      carry_out_next(lock);
    }
  }

  void carry_out_next(std::unique_lock<std::mutex>& lock) {
    const std::shared_ptr<Launched> next = under_way_.front();
    busy_ = true;
    lock.unlock();
    Outcome<Done> outcome = capture([&] { carry_out(*next); });
    lock.lock();
    busy_ = false;
    under_way_.pop_front();
    if (!outcome && !broken_) broken_ = outcome.fault;
    end(*next, std::move(outcome));
    if (broken_) fail_all();
    if (!under_way_.empty()) has_work_.notify_one();
    ended_.notify_all();
  }

  static void end(Launched& launched, Outcome<Done> outcome) {
    launched.buffers = {};  // no tensor lives longer for it
    launched.ended = std::move(outcome);
  }
  void fail_all() {
    for (const auto& launched : under_way_) end(*launched, {std::nullopt, *broken_});
    under_way_.clear();
    ended_.notify_all();
  }

  void carry_out(const Launched& launched) {
    const CollectiveOperation& what = launched.what;
    const TraceSpan span(name(what.kind), what.numel * static_cast<int64_t>(c10::elementSize(what.dtype)));
    const Deadline until = Deadline::after(deadline_);
    std::optional<Deadline> hearsay;
    exchanger_.carry_out(what, launched.buffers, [&](int place, bool left) {
      if (stopping_) throw Error({.code = Code::aborted, .what = "the Collectives was destroyed in " + describe(what)});
      if (auto fault = control_.failure()) throw Error(met_in(std::move(*fault), what));
      const std::string rank = "rank " + std::to_string(members_.job_rank(place));
      if (left && !hearsay) hearsay = Deadline::after(word_of_mouth);
      if (left && hearsay->expired()) throw Error({.code = Code::peer_lost, .what = rank + " is gone: it left before " + describe(what)});
      if (until.expired()) {
        throw Error({.code = Code::timeout,
                     .what = "no word of " + rank + " for " + std::to_string(deadline_.count()) + " ms, in " + describe(what)});
      }
    });
  }

  Comm& control_;
  const Members members_;
  const Milliseconds deadline_;
  SharedExchange exchange_;
  Exchanger exchanger_;
  uint64_t launched_ = 0;  // the rank's thread alone
  std::atomic<bool> stopping_ = false;
  std::mutex mutex_;
  std::condition_variable has_work_;
  std::condition_variable ended_;
  std::deque<std::shared_ptr<Launched>> under_way_;
  bool busy_ = false;  // someone carries out the first of them
  std::optional<Fault> broken_;
  std::thread worker_;
};

class SharedWork final : public Work {
 public:
  SharedWork(std::shared_ptr<Engine> engine, std::shared_ptr<Launched> launched)
      : engine_(std::move(engine)), launched_(std::move(launched)) {}
  void wait() override { engine_->wait(*launched_); }

 private:
  const std::shared_ptr<Engine> engine_;
  const std::shared_ptr<Launched> launched_;
};

class SharedCollectives final : public Collectives {
 public:
  SharedCollectives(std::shared_ptr<Engine> engine, const SharedSlots& slots) : engine_(std::move(engine)), slots_(slots) {}
  ~SharedCollectives() override { engine_->stop(); }

  int rank() const override { return engine_->members().mine; }
  int size() const override { return engine_->members().size(); }

  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    check_all_gather(full, shard, size());
    return launch(operation(CollectiveKind::all_gather, shard, label), full, shard);
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    check_reduce_scatter(shard, full, how, size());
    return launch(operation(CollectiveKind::reduce_scatter, shard, label, how), full, shard);
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    check_all_reduce(tensor, how);
    return launch(operation(CollectiveKind::all_reduce, tensor, label, how), tensor, {});
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    check_broadcast(tensor, root, size());
    return launch(operation(CollectiveKind::broadcast, tensor, label, Reduce::sum, root), tensor, {});
  }

  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    Members group = agree_on_split(*this, engine_->members(), ranks);
    return shared_group(*this, std::move(group), ranks.front(), engine_->control(), engine_->deadline(), slots_);
  }

  // The control plane spreads the word, and every wait looks at it.
  void abort(const Fault& fault) override { engine_->control().abort(fault); }

 private:
  std::unique_ptr<Work> launch(const CollectiveOperation& what, const at::Tensor& whole, const at::Tensor& shard) {
    return std::make_unique<SharedWork>(engine_, engine_->launch(what, buffers_of(whole, shard)));
  }

  const std::shared_ptr<Engine> engine_;
  const SharedSlots slots_;
};

// Bytes of the same number on every rank.
std::vector<Bytes> tell_through(Collectives& whole, const Bytes& mine) {
  const auto each = static_cast<int64_t>(mine.size());
  const at::Tensor one = at::empty({each}, at::kByte);
  const at::Tensor all = at::empty({each * whole.size()}, at::kByte);
  std::memcpy(one.mutable_data_ptr(), mine.data(), mine.size());
  whole.all_gather_into(all, one, "split")->wait();
  std::vector<Bytes> told;
  const auto* first = static_cast<const std::byte*>(all.const_data_ptr());
  for (int r = 0; r < whole.size(); ++r) told.emplace_back(first + r * each, first + (r + 1) * each);
  return told;
}

void check_room(const SharedSlots& slots, int ranks) {
  if (slots.bytes >= size_t{64} * static_cast<size_t>(ranks)) return;
  throw Error({.code = Code::unsupported,
               .what = "a slot of " + std::to_string(slots.bytes) + " bytes has no part for each of " + std::to_string(ranks) + " ranks"});
}

}  // namespace

std::unique_ptr<Collectives> shared_group(Collectives& whole, Members group, int first, Comm& control, Milliseconds deadline,
                                          const SharedSlots& slots) {
  check_room(slots, whole.size());
  const auto tell_all = [&](Bytes mine) { return tell_through(whole, mine); };
  SharedRegion region = meet_in_memory(whole.rank(), first, SharedExchange::region_bytes(group.size(), slots), tell_all);
  if (group.size() == 1) return lone_collectives();
  return std::make_unique<SharedCollectives>(std::make_shared<Engine>(std::move(region), control, std::move(group), deadline, slots),
                                             slots);
}

std::unique_ptr<Collectives> shared_collectives(Comm& control, Milliseconds deadline, const SharedSlots& slots) {
  check_room(slots, control.size());
  const auto tell_all = [&](Bytes mine) { return all_gather(control, "share memory", std::move(mine)); };
  SharedRegion region = meet_in_memory(control.rank(), 0, SharedExchange::region_bytes(control.size(), slots), tell_all);
  Members members = all_members(control.rank(), control.size());
  return std::make_unique<SharedCollectives>(std::make_shared<Engine>(std::move(region), control, std::move(members), deadline, slots),
                                             slots);
}

}  // namespace tessera
