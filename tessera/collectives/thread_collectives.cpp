#include "tessera/collectives/thread_collectives.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <ranges>

#include "tessera/base/guarded.h"
#include "tessera/collectives/arguments.h"
#include "tessera/collectives/collective_operation.h"
#include "tessera/collectives/members.h"
#include "tessera/collectives/reduction.h"

namespace tessera {
namespace {

// A rank's tensors of an operation.
struct Buffers {
  at::Tensor whole;
  at::Tensor shard;
  std::byte* whole_bytes() const { return static_cast<std::byte*>(whole.mutable_data_ptr()); }
  std::byte* shard_bytes() const { return static_cast<std::byte*>(shard.mutable_data_ptr()); }
};

// How far a rank is with an operation. Only an all_reduce has a second half.
enum class Stage { absent, launched, half_done, done };

struct Common {
  Common(const CollectiveOperation& what, int first_place, size_t ranks)
      : what(what), first_place(first_place), buffers(ranks), stages(ranks, Stage::absent) {}
  const CollectiveOperation what;
  const int first_place;         // who launched it first
  std::vector<Buffers> buffers;  // by place
  std::vector<Stage> stages;     // by place; only under the table's lock
  at::Tensor reduced = {};       // of an all_reduce: each rank computes its share of it, all copy all of it
};

struct Shared;

struct Table {
  std::vector<bool> left;  // by place: its Collectives is gone
  std::map<uint64_t, std::shared_ptr<Common>> operations = {};
  std::optional<Fault> broken = {};
  // Groups split from this one that not all of their ranks have yet: by the number of the split and the first rank of the group.
  struct Forming {
    std::shared_ptr<Shared> group;
    int taken = 0;
  };
  std::map<std::pair<uint64_t, int>, Forming> forming = {};
};

// All groups of a job, which an abort reaches.
struct Family {
  struct State {
    std::vector<std::weak_ptr<Shared>> groups;
    std::optional<Fault> aborted;
  };
  Guarded<State> state;
};

// What the ranks of one group share.
struct Shared {
  Shared(std::vector<int> job_ranks, Milliseconds deadline, std::shared_ptr<Family> family)
      : job_ranks(std::move(job_ranks)),
        deadline(deadline),
        family(std::move(family)),
        table(Table{std::vector<bool>(this->job_ranks.size())}) {}
  const std::vector<int> job_ranks;
  const Milliseconds deadline;
  const std::shared_ptr<Family> family;
  Guarded<Table> table;
};

void break_with(Shared& group, const Fault& fault) {
  group.table.with([&](Table& table) {
    if (!table.broken) table.broken = fault;
  });
}

void abort_all(Family& family, const Fault& fault) {
  family.state.with([&](Family::State& state) {
    if (!state.aborted) state.aborted = fault;
    for (const auto& weak : state.groups) {
      if (const auto group = weak.lock()) break_with(*group, *state.aborted);
    }
  });
}

std::shared_ptr<Shared> new_group(std::vector<int> job_ranks, Milliseconds deadline, const std::shared_ptr<Family>& family) {
  auto group = std::make_shared<Shared>(std::move(job_ranks), deadline, family);
  family->state.with([&](Family::State& state) {
    std::erase_if(state.groups, [](const auto& weak) { return weak.expired(); });
    state.groups.push_back(group);
    if (state.aborted) break_with(*group, *state.aborted);
  });
  return group;
}

// The range of an all_reduce that is the share of the rank at `place`, in elements.
struct Share {
  int64_t begin;
  int64_t count;
};
Share share_of(int64_t numel, int place, int ranks) {
  const int64_t each = (numel + ranks - 1) / ranks;
  const int64_t begin = std::min(numel, each * place);
  return {begin, std::min(each, numel - begin)};
}

class ThreadCollectives;

// What a rank launched in any of its groups and has not carried out, in the order of the launches. Touched by the rank's thread alone.
using Agenda = std::deque<std::pair<ThreadCollectives*, uint64_t>>;

class ThreadWork final : public Work {
 public:
  ThreadWork(ThreadCollectives& owner, uint64_t number) : owner_(owner), number_(number) {}
  void wait() override;

 private:
  ThreadCollectives& owner_;
  const uint64_t number_;
};

class ThreadCollectives final : public Collectives {
 public:
  ThreadCollectives(std::shared_ptr<Shared> shared, int place, std::shared_ptr<Agenda> agenda)
      : shared_(std::move(shared)), place_(place), agenda_(std::move(agenda)) {}
  ~ThreadCollectives() override {
    std::erase_if(*agenda_, [&](const auto& item) { return item.first == this; });
    shared_->table.with([&](Table& table) { table.left[index(place_)] = true; });
  }

  int rank() const override { return place_; }
  int size() const override { return static_cast<int>(shared_->job_ranks.size()); }

  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard, std::string_view label) override {
    check_all_gather(full, shard, size());
    return launch(operation(CollectiveKind::all_gather, shard, label), {full.detach(), shard.detach()});
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how, std::string_view label) override {
    check_reduce_scatter(shard, full, how, size());
    return launch(operation(CollectiveKind::reduce_scatter, shard, label, how), {full.detach(), shard.detach()});
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how, std::string_view label) override {
    check_all_reduce(tensor, how);
    return launch(operation(CollectiveKind::all_reduce, tensor, label, how), {tensor.detach(), {}});
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root, std::string_view label) override {
    check_broadcast(tensor, root, size());
    return launch(operation(CollectiveKind::broadcast, tensor, label, Reduce::sum, root), {tensor.detach(), {}});
  }

  std::unique_ptr<Collectives> split(const std::vector<int>& ranks) override {
    const Members members = agree_on_split(*this, {shared_->job_ranks, place_}, ranks);
    const std::pair key(splits_++, ranks.front());
    // Made before the lock is taken, since an abort takes the family's first; dropped where another rank was here before.
    const auto made = new_group(members.ranks, shared_->deadline, shared_->family);
    const auto group = shared_->table.with([&](Table& table) {
      Table::Forming& forming = table.forming[key];
      if (!forming.group) forming.group = made;
      const auto found = forming.group;
      if (++forming.taken == members.size()) table.forming.erase(key);
      return found;
    });
    return std::make_unique<ThreadCollectives>(group, members.mine, agenda_);
  }

  void abort(const Fault& fault) override { abort_all(*shared_->family, fault); }

  // Carries out this rank's share of everything that it launched up to `number` of this group, in any group.
  void finish(uint64_t number) {
    while (done_ <= number) {
      const auto [owner, next] = agenda_->front();
      owner->carry_out(next);  // stays on the agenda if it throws, and throws again
      agenda_->pop_front();
      owner->done_ = next + 1;
    }
  }

 private:
  static void throw_if_broken(const Table& table) {
    if (table.broken) throw Error(*table.broken);
  }

  static size_t index(int place) { return static_cast<size_t>(place); }
  std::string name_of(int place) const { return std::to_string(shared_->job_ranks[index(place)]); }
  static std::string title(const Common& common) {
    return "collective " + std::to_string(common.what.number) + ", " + describe(common.what);
  }

  std::unique_ptr<Work> launch(CollectiveOperation what, Buffers buffers) {
    what.number = launched_;
    shared_->table.with([&](Table& table) {
      throw_if_broken(table);
      auto& common = table.operations[what.number];
      if (!common) {
        common = std::make_shared<Common>(what, place_, index(size()));
        if (what.kind == CollectiveKind::all_reduce) common->reduced = at::empty({what.numel}, buffers.whole.options());
      } else if (common->what != what) {
        table.broken =
            different_ways(shared_->job_ranks[index(place_)], what, shared_->job_ranks[index(common->first_place)], common->what);
        throw_if_broken(table);
      }
      common->buffers[index(place_)] = std::move(buffers);
      common->stages[index(place_)] = Stage::launched;
    });
    agenda_->emplace_back(this, launched_);
    return std::make_unique<ThreadWork>(*this, launched_++);
  }

  void carry_out(uint64_t number) {
    const auto common = shared_->table.with([&](Table& table) {
      throw_if_broken(table);
      return table.operations.at(number);
    });
    wait_for_all(*common, Stage::launched);
    first_half(*common);
    reach(*common, Stage::half_done);
    wait_for_all(*common, Stage::half_done);
    if (common->what.kind == CollectiveKind::all_reduce) {
      copy(common->buffers[index(place_)].whole_bytes(), static_cast<const std::byte*>(common->reduced.const_data_ptr()),
           common->reduced.nbytes());
      reach(*common, Stage::done);
      wait_for_all(*common, Stage::done);
    }
    common->buffers[index(place_)] = {};  // no tensor lives longer for it, whatever the others are at
    // Every rank is through with the buffers. The last one to say so removes the operation; saying it twice is harmless.
    shared_->table.with([&](Table& table) { table.operations.erase(number); });
  }

  void first_half(Common& common) {
    const CollectiveOperation& what = common.what;
    const Buffers& mine = common.buffers[index(place_)];
    const auto each = static_cast<int64_t>(c10::elementSize(what.dtype));
    const int64_t bytes = what.numel * each;
    switch (what.kind) {
      case CollectiveKind::all_gather:
        for (int p = 0; p < size(); ++p)
          copy(mine.whole_bytes() + p * bytes, common.buffers[index(p)].shard_bytes(), static_cast<size_t>(bytes));
        break;
      case CollectiveKind::reduce_scatter: reduce(mine.shard_bytes(), common, place_ * bytes, what.numel); break;
      case CollectiveKind::all_reduce: {
        const Share share = share_of(what.numel, place_, size());
        reduce(static_cast<std::byte*>(common.reduced.mutable_data_ptr()) + share.begin * each, common, share.begin * each, share.count);
        break;
      }
      case CollectiveKind::broadcast:
        copy(mine.whole_bytes(), common.buffers[index(what.root)].whole_bytes(), static_cast<size_t>(bytes));
        break;
    }
  }

  // A rank's own part may be in place already.
  static void copy(std::byte* to, const std::byte* from, size_t bytes) {
    if (bytes > 0 && to != from) std::memcpy(to, from, bytes);
  }

  // The reduction of `count` elements that lie `offset_bytes` into what each rank has whole.
  void reduce(std::byte* out, const Common& common, int64_t offset_bytes, int64_t count) const {
    if (count == 0) return;
    std::vector<const void*> parts;
    for (const Buffers& buffers : common.buffers) parts.push_back(buffers.whole_bytes() + offset_bytes);
    reduce_in_order(out, parts, count, common.what.dtype, common.what.how);
  }

  void reach(Common& common, Stage stage) {
    shared_->table.with([&](Table&) { common.stages[index(place_)] = stage; });
  }

  // Until every rank has reached `stage`; a rank that left before it never will.
  void wait_for_all(const Common& common, Stage stage) {
    const auto behind = [&](int place) { return common.stages[index(place)] < stage; };
    const auto lost = [&](const Table& table) -> std::optional<int> {
      for (int p = 0; p < size(); ++p) {
        if (behind(p) && table.left[index(p)]) return p;
      }
      return std::nullopt;
    };
    const auto all = [&] { return std::ranges::none_of(std::views::iota(0, size()), behind); };
    const auto break_if_lost = [&](Table& table) {
      const auto place = lost(table);
      if (place && !table.broken)
        table.broken = Fault{.code = Code::peer_lost, .what = "rank " + name_of(*place) + " is gone: it left before " + title(common)};
      throw_if_broken(table);
    };
    const bool over = shared_->table.when(
        Deadline::after(shared_->deadline), [&](const Table& table) { return table.broken || all() || lost(table); }, break_if_lost);
    if (!over) shared_->table.with([&](Table& table) { time_out(table, common, behind); });
  }

  template <class Behind>
  void time_out(Table& table, const Common& common, Behind behind) {
    std::string missing;
    for (int p = 0; p < size(); ++p) {
      if (behind(p)) missing += (missing.empty() ? "" : ", ") + name_of(p);
    }
    if (!table.broken && !missing.empty()) {
      table.broken =
          Fault{.code = Code::timeout,
                .what = "no word of rank " + missing + " for " + std::to_string(shared_->deadline.count()) + " ms, in " + title(common)};
    }
    throw_if_broken(table);
  }

  const std::shared_ptr<Shared> shared_;
  const int place_;
  const std::shared_ptr<Agenda> agenda_;
  uint64_t launched_ = 0;
  uint64_t done_ = 0;
  uint64_t splits_ = 0;
};

void ThreadWork::wait() { owner_.finish(number_); }

}  // namespace

std::vector<std::unique_ptr<Collectives>> thread_collectives(int ranks, Milliseconds deadline) {
  const auto shared = new_group(all_members(0, ranks).ranks, deadline, std::make_shared<Family>());
  std::vector<std::unique_ptr<Collectives>> all;
  for (int r = 0; r < ranks; ++r) all.push_back(std::make_unique<ThreadCollectives>(shared, r, std::make_shared<Agenda>()));
  return all;
}

std::unique_ptr<Collectives> lone_collectives() { return std::move(thread_collectives(1).front()); }

}  // namespace tessera
