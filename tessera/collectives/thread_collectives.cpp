#include "tessera/collectives/thread_collectives.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/maximum.h>

#include <algorithm>
#include <map>
#include <optional>
#include <ranges>

#include "tessera/base/guarded.h"
#include "tessera/collectives/arguments.h"

namespace tessera {
namespace {

enum class Kind { all_gather, reduce_scatter, all_reduce, broadcast };

const char* name(Kind kind) {
  switch (kind) {
    case Kind::all_gather: return "all_gather";
    case Kind::reduce_scatter: return "reduce_scatter";
    case Kind::all_reduce: return "all_reduce";
    case Kind::broadcast: return "broadcast";
  }
  return "?";
}

// What must be the same on all ranks.
struct Shape {
  Kind kind;
  at::ScalarType dtype;
  int64_t numel;  // of a shard, or of the whole where there are no shards
  Reduce how;
  int root;
  bool operator==(const Shape&) const = default;
};
std::string describe(const Shape& shape) {
  return std::string(name(shape.kind)) + " of " + std::to_string(shape.numel) + " " + c10::toString(shape.dtype);
}

struct Buffers {
  at::Tensor whole;  // 1-D
  at::Tensor shard;  // 1-D
};

// How far a rank is with an operation. Only an all_reduce has a second half.
enum class Stage { absent, launched, half_done, done };

struct Operation {
  Operation(const Shape& shape, int first_rank, size_t ranks)
      : shape(shape), first_rank(first_rank), buffers(ranks), stages(ranks, Stage::absent) {}
  const Shape shape;
  const int first_rank;
  std::vector<Buffers> buffers;  // by rank
  std::vector<Stage> stages;     // by rank; only under the table's lock
  at::Tensor reduced = {};       // of an all_reduce: each rank computes its share of it, all copy all of it
};

struct Table {
  std::vector<bool> left;  // by rank: its Collectives is gone
  std::map<uint64_t, std::shared_ptr<Operation>> operations = {};
  std::optional<Fault> broken = {};
};

struct Shared {
  explicit Shared(int ranks, Milliseconds deadline)
      : ranks(ranks), deadline(deadline), table(Table{std::vector<bool>(static_cast<size_t>(ranks))}) {}
  const int ranks;
  const Milliseconds deadline;
  Guarded<Table> table;
};

// The range of `numel` elements that is rank r's share.
at::Tensor share(const at::Tensor& whole, int rank, int ranks) {
  const int64_t each = (whole.numel() + ranks - 1) / ranks;
  const int64_t begin = std::min(whole.numel(), each * rank);
  return whole.narrow(0, begin, std::min(each, whole.numel() - begin));
}

class ThreadCollectives;

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
  ThreadCollectives(std::shared_ptr<Shared> shared, int rank) : shared_(std::move(shared)), rank_(rank) {}
  ~ThreadCollectives() override {
    shared_->table.with([&](Table& table) { table.left[static_cast<size_t>(rank_)] = true; });
  }

  int rank() const override { return rank_; }
  int size() const override { return shared_->ranks; }

  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard) override {
    check_all_gather(full, shard, size());
    return launch({Kind::all_gather, shard.scalar_type(), shard.numel(), Reduce::sum, 0}, {full.detach(), shard.detach()});
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how) override {
    check_reduce_scatter(shard, full, how, size());
    return launch({Kind::reduce_scatter, shard.scalar_type(), shard.numel(), how, 0}, {full.detach(), shard.detach()});
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how) override {
    check_all_reduce(tensor, how);
    return launch({Kind::all_reduce, tensor.scalar_type(), tensor.numel(), how, 0}, {tensor.detach().view({-1}), {}});
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root) override {
    check_broadcast(tensor, root, size());
    return launch({Kind::broadcast, tensor.scalar_type(), tensor.numel(), Reduce::sum, root}, {tensor.detach().view({-1}), {}});
  }
  void abort(const Fault& fault) override {
    shared_->table.with([&](Table& table) {
      if (!table.broken) table.broken = fault;
    });
  }

  // Carries out this rank's share of every operation up to and including `number`.
  void finish(uint64_t number) {
    const at::NoGradGuard no_grad;
    while (done_ <= number) {
      carry_out(done_);
      ++done_;
    }
  }

 private:
  static void throw_if_broken(const Table& table) {
    if (table.broken) throw Error(*table.broken);
  }

  static size_t index(int rank) { return static_cast<size_t>(rank); }
  static std::string title(const Operation& operation, uint64_t number) {
    return "collective " + std::to_string(number) + ", " + describe(operation.shape);
  }
  static Buffers& buffers_of(Operation& operation, int rank) { return operation.buffers[index(rank)]; }

  std::unique_ptr<Work> launch(const Shape& shape, Buffers buffers) {
    shared_->table.with([&](Table& table) {
      throw_if_broken(table);
      auto& operation = table.operations[launched_];
      if (!operation) {
        operation = std::make_shared<Operation>(shape, rank_, index(size()));
        if (shape.kind == Kind::all_reduce) operation->reduced = at::empty({shape.numel}, buffers.whole.options());
      } else if (operation->shape != shape) {
        table.broken = Fault{.code = Code::internal,
                             .what = "ranks took different ways: collective " + std::to_string(launched_) + " is " +
                                     describe(operation->shape) + " on rank " + std::to_string(operation->first_rank) + " and " +
                                     describe(shape) + " on rank " + std::to_string(rank_)};
        throw_if_broken(table);
      }
      buffers_of(*operation, rank_) = std::move(buffers);
      operation->stages[index(rank_)] = Stage::launched;
    });
    return std::make_unique<ThreadWork>(*this, launched_++);
  }

  void carry_out(uint64_t number) {
    const auto operation = shared_->table.with([&](Table& table) {
      throw_if_broken(table);
      return table.operations.at(number);
    });
    wait_for_all(*operation, Stage::launched, number);
    first_half(*operation);
    reach(*operation, Stage::half_done);
    wait_for_all(*operation, Stage::half_done, number);
    if (operation->shape.kind == Kind::all_reduce) {
      buffers_of(*operation, rank_).whole.copy_(operation->reduced);
      reach(*operation, Stage::done);
      wait_for_all(*operation, Stage::done, number);
    }
    // Every rank is through with the buffers. The last one to say so removes the operation; saying it twice is harmless.
    shared_->table.with([&](Table& table) { table.operations.erase(number); });
  }

  void first_half(Operation& operation) {
    const Shape& shape = operation.shape;
    Buffers& mine = buffers_of(operation, rank_);
    switch (shape.kind) {
      case Kind::all_gather:
        for (int r = 0; r < size(); ++r) copy(mine.whole.narrow(0, r * shape.numel, shape.numel), buffers_of(operation, r).shard);
        break;
      case Kind::reduce_scatter:
        reduce(mine.shard, operation, [&](const at::Tensor& whole) { return whole.narrow(0, rank_ * shape.numel, shape.numel); });
        break;
      case Kind::all_reduce:
        reduce(share(operation.reduced, rank_, size()), operation, [&](const at::Tensor& whole) { return share(whole, rank_, size()); });
        break;
      case Kind::broadcast: copy(mine.whole, buffers_of(operation, shape.root).whole); break;
    }
  }

  // A rank's own part may be in place already.
  static void copy(const at::Tensor& to, const at::Tensor& from) {
    if (to.data_ptr() != from.data_ptr()) to.copy_(from);
  }

  template <class Part>
  void reduce(at::Tensor out, Operation& operation, Part part) {
    out.copy_(part(buffers_of(operation, 0).whole));
    for (int r = 1; r < size(); ++r) {
      const at::Tensor next = part(buffers_of(operation, r).whole);
      if (operation.shape.how == Reduce::max) at::maximum_out(out, out, next);
      else out.add_(next);
    }
    if (operation.shape.how == Reduce::mean) out.mul_(1.0 / size());
  }

  void reach(Operation& operation, Stage stage) {
    shared_->table.with([&](Table&) { operation.stages[index(rank_)] = stage; });
  }

  // Until every rank has reached `stage`; a rank that left before it never will.
  void wait_for_all(const Operation& operation, Stage stage, uint64_t number) {
    const auto behind = [&](int rank) { return operation.stages[index(rank)] < stage; };
    const auto lost = [&](const Table& table) -> std::optional<int> {
      for (int r = 0; r < size(); ++r) {
        if (behind(r) && table.left[index(r)]) return r;
      }
      return std::nullopt;
    };
    const auto all = [&] { return std::ranges::none_of(std::views::iota(0, size()), behind); };
    const auto break_if_lost = [&](Table& table) {
      const auto rank = lost(table);
      if (rank && !table.broken)
        table.broken = Fault{.code = Code::peer_lost,
                             .what = "rank " + std::to_string(*rank) + " is gone: it left before " + title(operation, number)};
      throw_if_broken(table);
    };
    const bool over = shared_->table.when(
        Deadline::after(shared_->deadline), [&](const Table& table) { return table.broken || all() || lost(table); }, break_if_lost);
    if (!over) shared_->table.with([&](Table& table) { time_out(table, operation, behind, number); });
  }

  template <class Behind>
  void time_out(Table& table, const Operation& operation, Behind behind, uint64_t number) {
    std::string missing;
    for (int r = 0; r < size(); ++r) {
      if (behind(r)) missing += (missing.empty() ? "" : ", ") + std::to_string(r);
    }
    if (!table.broken && !missing.empty()) {
      table.broken = Fault{.code = Code::timeout,
                           .what = "no word of rank " + missing + " for " + std::to_string(shared_->deadline.count()) + " ms, in " +
                                   title(operation, number)};
    }
    throw_if_broken(table);
  }

  const std::shared_ptr<Shared> shared_;
  const int rank_;
  uint64_t launched_ = 0;
  uint64_t done_ = 0;
};

void ThreadWork::wait() { owner_.finish(number_); }

}  // namespace

std::vector<std::unique_ptr<Collectives>> thread_collectives(int ranks, Milliseconds deadline) {
  const auto shared = std::make_shared<Shared>(ranks, deadline);
  std::vector<std::unique_ptr<Collectives>> all;
  for (int r = 0; r < ranks; ++r) all.push_back(std::make_unique<ThreadCollectives>(shared, r));
  return all;
}

}  // namespace tessera
