#include "tessera/collectives/thread_collectives.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/maximum.h>

#include <map>
#include <optional>

#include "tessera/base/guarded.h"

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

struct Operation {
  std::optional<Shape> shape;
  int first_rank = 0;
  std::vector<Buffers> buffers;
  at::Tensor reduced;  // of an all_reduce: each rank computes its share of it, all copy all of it
  int arrived = 0;
  int first_half = 0;   // ranks that are through with the first half of their share
  int second_half = 0;
};

struct Table {
  std::map<uint64_t, std::shared_ptr<Operation>> operations;
  std::optional<Fault> broken;
};

struct Shared {
  explicit Shared(int ranks, Milliseconds deadline) : ranks(ranks), deadline(deadline) {}
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

  int rank() const override { return rank_; }
  int size() const override { return shared_->ranks; }

  std::unique_ptr<Work> all_gather_into(at::Tensor full, at::Tensor shard) override {
    check(full.numel() == shard.numel() * size(), "full is not as long as all shards");
    return launch({Kind::all_gather, shard.scalar_type(), shard.numel(), Reduce::sum, 0}, {full, shard});
  }
  std::unique_ptr<Work> reduce_scatter_into(at::Tensor shard, at::Tensor full, Reduce how) override {
    check(full.numel() == shard.numel() * size(), "full is not as long as all shards");
    check_reduction(shard, how);
    return launch({Kind::reduce_scatter, shard.scalar_type(), shard.numel(), how, 0}, {full, shard});
  }
  std::unique_ptr<Work> all_reduce(at::Tensor tensor, Reduce how) override {
    check_reduction(tensor, how);
    return launch({Kind::all_reduce, tensor.scalar_type(), tensor.numel(), how, 0}, {tensor.view({-1}), {}});
  }
  std::unique_ptr<Work> broadcast(at::Tensor tensor, int root) override {
    check(root >= 0 && root < size(), "no such root");
    return launch({Kind::broadcast, tensor.scalar_type(), tensor.numel(), Reduce::sum, root}, {tensor.view({-1}), {}});
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
  static void check(bool good, const char* what) {
    if (!good) throw Error({.code = Code::invalid_argument, .what = std::string("a collective whose tensors do not fit: ") + what});
  }
  static void check_reduction(const at::Tensor& tensor, Reduce how) {
    if (how == Reduce::mean && !at::isFloatingType(tensor.scalar_type()))
      throw Error({.code = Code::unsupported, .what = "the mean of integers"});
  }
  static void throw_if_broken(const Table& table) {
    if (table.broken) throw Error(*table.broken);
  }

  std::unique_ptr<Work> launch(const Shape& shape, Buffers buffers) {
    const uint64_t number = launched_++;
    shared_->table.with([&](Table& table) {
      throw_if_broken(table);
      auto& operation = table.operations[number];
      if (!operation) operation = std::make_shared<Operation>();
      if (!operation->shape) {
        operation->shape = shape;
        operation->first_rank = rank_;
        operation->buffers.resize(static_cast<size_t>(size()));
        if (shape.kind == Kind::all_reduce) operation->reduced = at::empty({shape.numel}, buffers.whole.options());
      } else if (*operation->shape != shape) {
        table.broken = Fault{.code = Code::internal,
                             .what = "ranks took different ways: collective " + std::to_string(number) + " is " +
                                     describe(*operation->shape) + " on rank " + std::to_string(operation->first_rank) + " and " +
                                     describe(shape) + " on rank " + std::to_string(rank_)};
        throw_if_broken(table);
      }
      operation->buffers[static_cast<size_t>(rank_)] = std::move(buffers);
      ++operation->arrived;
    });
    return std::make_unique<ThreadWork>(*this, number);
  }

  void carry_out(uint64_t number) {
    const auto operation = shared_->table.with([&](Table& table) {
      throw_if_broken(table);
      return table.operations.at(number);
    });
    wait_for_all(*operation, operation->arrived, "join", number);
    first_half(*operation);
    count(operation->first_half);
    wait_for_all(*operation, operation->first_half, "finish", number);
    if (operation->shape->kind == Kind::all_reduce) {
      buffers_of(*operation, rank_).whole.copy_(operation->reduced);
      count(operation->second_half);
      wait_for_all(*operation, operation->second_half, "finish", number);
    }
    // Every rank is through with the buffers. The last one to say so removes the operation; saying it twice is harmless.
    shared_->table.with([&](Table& table) { table.operations.erase(number); });
  }

  void first_half(Operation& operation) {
    const Shape& shape = *operation.shape;
    Buffers& mine = buffers_of(operation, rank_);
    switch (shape.kind) {
      case Kind::all_gather:
        for (int r = 0; r < size(); ++r) copy(mine.whole.narrow(0, r * shape.numel, shape.numel), buffers_of(operation, r).shard);
        break;
      case Kind::reduce_scatter:
        mine.shard.copy_(reduce(operation, [&](const at::Tensor& whole) { return whole.narrow(0, rank_ * shape.numel, shape.numel); }));
        break;
      case Kind::all_reduce:
        share(operation.reduced, rank_, size()).copy_(reduce(operation, [&](const at::Tensor& whole) {
          return share(whole, rank_, size());
        }));
        break;
      case Kind::broadcast: copy(mine.whole, buffers_of(operation, shape.root).whole); break;
    }
  }

  static Buffers& buffers_of(Operation& operation, int rank) { return operation.buffers[static_cast<size_t>(rank)]; }

  // A rank's own part may be in place already.
  static void copy(const at::Tensor& to, const at::Tensor& from) {
    if (to.data_ptr() != from.data_ptr()) to.copy_(from);
  }

  template <class Part>
  at::Tensor reduce(Operation& operation, Part part) {
    at::Tensor sum = part(buffers_of(operation, 0).whole).clone();
    for (int r = 1; r < size(); ++r) {
      const at::Tensor next = part(buffers_of(operation, r).whole);
      if (operation.shape->how == Reduce::max) sum = at::maximum(sum, next);
      else sum.add_(next);
    }
    if (operation.shape->how == Reduce::mean) sum.mul_(1.0 / size());
    return sum;
  }

  void count(int& counter) {
    shared_->table.with([&](Table&) { ++counter; });
  }

  void wait_for_all(Operation& operation, const int& counter, const char* what, uint64_t number) {
    const bool all = shared_->table.when(
        Deadline::after(shared_->deadline), [&](const Table& table) { return table.broken || counter == size(); },
        [](const Table& table) { throw_if_broken(table); });
    if (all) return;
    shared_->table.with([&](Table& table) {
      throw_if_broken(table);
      std::string missing;
      for (int r = 0; r < size(); ++r) {
        if (!buffers_of(operation, r).whole.defined()) missing += (missing.empty() ? " of rank " : ", ") + std::to_string(r);
      }
      table.broken =
          Fault{.code = Code::timeout,
                .what = "no word" + missing + " for " + std::to_string(shared_->deadline.count()) + " ms, waiting for all ranks to " +
                        what + " collective " + std::to_string(number) + ", " + describe(*operation.shape)};
      throw_if_broken(table);
    });
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
