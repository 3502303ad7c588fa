#include "tessera/base/trace.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "tessera/base/error.h"
#include "tessera/base/guarded.h"

namespace tessera {
namespace {

using Clock = std::chrono::steady_clock;

// Shared by the thread and the list: a row outlives its thread.
using Row = std::shared_ptr<Guarded<TraceRow>>;

struct Recording {
  Clock::time_point origin;
  int64_t number = 0;  // of this recording; a thread that was in an earlier one takes a new row
  std::vector<Row> rows;
};
Guarded<Recording>& recording() {
  static Guarded<Recording> one;
  return one;
}

struct Mine {
  int64_t number = 0;
  Clock::time_point origin;
  Row row;
};
thread_local Mine mine;

// This thread's row in the recording that is under way.
Mine& my_row() {
  recording().with([&](Recording& all) {
    if (mine.row && mine.number == all.number) return;
    mine = {all.number, all.origin, std::make_shared<Guarded<TraceRow>>(TraceRow{"thread " + std::to_string(all.rows.size() + 1), {}})};
    all.rows.push_back(mine.row);
  });
  return mine;
}

int64_t nanoseconds(Clock::duration time) { return std::chrono::duration_cast<std::chrono::nanoseconds>(time).count(); }

}  // namespace

void record_trace() {
  recording().with([](Recording& all) { all = {Clock::now(), all.number + 1, {}}; });
  trace_detail::recording = true;
}

std::vector<TraceRow> take_trace() {
  trace_detail::recording = false;
  const auto rows = recording().with([](Recording& all) { return std::exchange(all.rows, {}); });
  std::vector<TraceRow> taken;
  for (const Row& row : rows) taken.push_back(row->with([](TraceRow& one) { return std::exchange(one, {}); }));
  std::ranges::stable_sort(taken, {}, &TraceRow::thread);
  return taken;
}

void name_trace_row(std::string_view name, std::string_view ending) noexcept {
  if (!trace_detail::recording.load(std::memory_order_relaxed)) return;
  // A picture is not worth failing for; and to tell of a failure may be one.
  try {
    my_row().row->with([&](TraceRow& row) { row.thread = std::string(name).append(ending); });
  } catch (...) {
  }
}

void name_rank_row(int rank, std::string_view ending) noexcept {
  char text[64];
  std::snprintf(text, sizeof text, "rank %d%.*s", rank, static_cast<int>(std::min<size_t>(ending.size(), 40)), ending.data());
  name_trace_row(text);
}

void trace_detail::add(const char* what, Clock::time_point begin, int64_t bytes) {
  const auto end = Clock::now();
  // A picture is not worth failing for.
  capture([&] {
    Mine& here = my_row();
    const int64_t begin_ns = nanoseconds(begin - here.origin);
    here.row->with([&](TraceRow& row) { row.events.push_back({what, begin_ns, nanoseconds(end - begin), bytes}); });
  });
}

}  // namespace tessera
