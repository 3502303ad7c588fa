// tessera/base/trace.h: what every thread did and when, for a picture of a save or a load (checkpoint/trace_file.h writes it).
// Cost        A load and a branch a span while nothing is recorded; two clocks and a push while something is.
// Threads     Any. Recording is of the whole process.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

struct TraceEvent {
  const char* what = "";  // lives for ever
  int64_t begin_ns = 0;   // since record_trace()
  int64_t length_ns = 0;
  int64_t bytes = -1;  // that it moved; -1 where that is no question
};
// One thread's events, in the order in which they ended.
struct TraceRow {
  std::string thread;
  std::vector<TraceEvent> events;
};

// From now on spans are kept. What was kept before is dropped.
void record_trace();
// Stops, and hands over what was kept: a row a thread, those with a name first, by name.
std::vector<TraceRow> take_trace();
// How this thread's row is called: both together; "thread 3" where nobody says. Costs a load while nothing is recorded.
void name_trace_row(std::string_view name, std::string_view ending = {}) noexcept;

// "rank 3", and an ending.
void name_rank_row(int rank, std::string_view ending = {}) noexcept;

namespace trace_detail {
inline std::atomic<bool> recording = false;
void add(const char* what, std::chrono::steady_clock::time_point begin, int64_t bytes);
}  // namespace trace_detail

// From here to the end of the scope.
class TraceSpan {
 public:
  explicit TraceSpan(const char* what, int64_t bytes = -1) : what_(what), bytes_(bytes) {
    if (trace_detail::recording.load(std::memory_order_relaxed)) begin_ = std::chrono::steady_clock::now();
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;
  ~TraceSpan() {
    if (begin_ != std::chrono::steady_clock::time_point()) trace_detail::add(what_, begin_, bytes_);
  }

 private:
  const char* what_;
  int64_t bytes_;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace tessera
