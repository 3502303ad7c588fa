#include "tessera/transfer/read_batch.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>

#include "tessera/base/guarded.h"
#include "tessera/base/trace.h"

namespace tessera {
namespace {

constexpr int64_t call_bytes = int64_t{1} << 20;
constexpr int64_t direct_bytes = int64_t{32} << 10;  // a run from here on is read straight into place
constexpr int64_t gap_bytes = int64_t{4} << 10;      // bytes nobody asked for that are read to save a call, where nothing is checked
constexpr int64_t least_run_bytes = 512;             // of a box that has more than
constexpr int64_t few_runs = 64;
constexpr int64_t note_bytes = int64_t{64} << 20;    // read between two words of progress

// Elements that lie together on both sides.
int64_t elements_of_run(const Sizes& sizes, const Sizes& a, const Sizes& b) {
  int64_t count = 1;
  for (size_t d = sizes.size(); d > 0 && (sizes[d - 1] == 1 || (a[d - 1] == count && b[d - 1] == count)); --d) count *= sizes[d - 1];
  return count;
}

// True if the elements are in the file as they are to be in memory, and nothing but the file's own digests speaks for them; and if there
// are not so many runs that to remember them takes more than they hold.
bool is_plain(const OpenItem& item, const Box& from, const View& into) {
  const format::TensorItem& tensor = item.tensor;
  const int64_t run = elements_of_run(from.sizes, tensor.strides, into.strides);
  if (run * element_bytes(tensor.dtype) < least_run_bytes && volume(from) / run > few_runs) return false;
  return !item.unpacked && tensor.dtype == into.dtype && !tensor.big_endian && !tensor.conjugate && !tensor.negative && !tensor.data_crc;
}

}  // namespace

ReadBatch::File& ReadBatch::file_of(const OpenItem& item) {
  // Items come in the order of the disk, more or less.
  if (!files_.empty() && files_.back()->source == item.file) return *files_.back();
  for (auto& file : files_) {
    if (file->source == item.file) return *file;
  }
  return *files_.emplace_back(std::make_unique<File>(File{item.file, item.checked, {}}));
}

void ReadBatch::add(const OpenItem& item, const Box& from, const View& into) {
  if (volume(from) == 0) return;
  if (!is_plain(item, from, into)) {
    by_item_.push_back({item, from, into});
    return;
  }
  File& file = file_of(item);
  const format::TensorItem& tensor = item.tensor;
  const int64_t each = element_bytes(tensor.dtype);
  int64_t first = item.begin_bytes + tensor.first_bytes;
  for (size_t d = 0; d < from.offsets.size(); ++d) first += from.offsets[d] * tensor.strides[d] * each;
  for_each_run(from.sizes, tensor.strides, into.strides,
               [&](int64_t a, int64_t b, int64_t count) { file.runs.push_back({first + a * each, into.data + b * each, count * each}); });
}

// Sorts a file's runs, cuts them where a call ends, and says what each call fetches.
void ReadBatch::cut_into_calls(File& file) {
  const auto by_place = [](const Run& run) { return run.at_bytes; };
  if (!std::ranges::is_sorted(file.runs, {}, by_place)) std::ranges::sort(file.runs, {}, by_place);
  const int64_t block = file.source->checked_together_bytes();
  const int64_t most = block > 0 ? block : call_bytes;
  std::vector<Run> cut;  // none crosses the end of a block, or is longer than a call

  cut.reserve(file.runs.size());
  for (Run run : file.runs) {
    while (run.count_bytes > 0) {
      const int64_t room = block > 0 ? most - run.at_bytes % most : most;
      const int64_t count = std::min(room, run.count_bytes);
      cut.push_back({run.at_bytes, run.into, count});
      run = {run.at_bytes + count, run.into + count, run.count_bytes - count};
    }
  }
  file.runs = std::move(cut);
  for (size_t i = 0; i < file.runs.size();) {
    Call call{&file, i, i + 1, file.runs[i].at_bytes, file.runs[i].at_bytes + file.runs[i].count_bytes};
    if (block > 0) {
      call.begin_bytes -= call.begin_bytes % block;
      call.end_bytes = std::min(call.begin_bytes + block, file.source->size_bytes());
    }
    int64_t reached = file.runs[i].at_bytes + file.runs[i].count_bytes;
    for (; call.last < file.runs.size(); ++call.last) {
      const Run& next = file.runs[call.last];
      if (next.at_bytes < reached) break;  // bytes that are wanted twice are fetched twice
      reached = next.at_bytes + next.count_bytes;
      if (block > 0) {
        if (next.at_bytes >= call.end_bytes) break;
      } else {
        if (next.at_bytes - call.end_bytes > gap_bytes || reached - call.begin_bytes > call_bytes) break;
        call.end_bytes = reached;
      }
    }
    i = call.last;
    calls_.push_back(call);
  }
}

// Fetches calls, with a buffer of its own.
class ReadBatch::Worker {
 public:
  int64_t fetch(const Call& call) {
    const TraceSpan span("read", call.end_bytes - call.begin_bytes);
    buffer_.resize(static_cast<size_t>(std::max<int64_t>(call_bytes, call.end_bytes - call.begin_bytes)));
    parts_.clear();
    int64_t at = call.begin_bytes;
    // What is not read into place goes where it would stand in a buffer that held the whole piece.
    const auto through_buffer = [&](int64_t end) {
      if (end > at) parts_.push_back(std::span(buffer_).subspan(static_cast<size_t>(at - call.begin_bytes), static_cast<size_t>(end - at)));
      at = end;
    };
    const std::span runs = std::span(call.file->runs).subspan(call.first, call.last - call.first);
    int64_t wanted = 0;
    for (const Run& run : runs) {
      wanted += run.count_bytes;
      if (run.count_bytes < direct_bytes) continue;
      through_buffer(run.at_bytes);
      parts_.push_back({run.into, static_cast<size_t>(run.count_bytes)});
      at = run.at_bytes + run.count_bytes;
    }
    through_buffer(call.end_bytes);
    call.file->source->read_parts(call.begin_bytes, parts_);
    for (const Run& run : runs) {
      if (run.count_bytes >= direct_bytes) continue;
      std::memcpy(run.into, buffer_.data() + (run.at_bytes - call.begin_bytes), static_cast<size_t>(run.count_bytes));
    }
    return wanted;
  }

 private:
  std::vector<std::byte> buffer_;
  std::vector<std::span<std::byte>> parts_;
};

ReadCount ReadBatch::run(int threads, const Progress& progress) {
  for (auto& file : files_) cut_into_calls(*file);
  struct Shared {
    ReadCount count;
    int64_t noted_bytes = 0;
    std::optional<Fault> fault;
  };
  Guarded<Shared> shared;
  std::atomic<size_t> next = 0;
  std::atomic<bool> failed = false;
  const size_t total = calls_.size() + by_item_.size();
  const auto work = [&] {
    auto done = capture([&] {
      Worker worker;
      for (size_t i = next++; i < total && !failed; i = next++) {
        ReadCount count;
        const ByteSource* file = nullptr;
        if (i < calls_.size()) {
          const Call& call = calls_[i];
          file = call.file->source.get();
          count.read_bytes = worker.fetch(call);
          count.unverified_bytes = call.file->checked ? 0 : count.read_bytes;
        } else {
          const ByItem& read = by_item_[i - calls_.size()];
          file = read.item.file.get();
          const TraceSpan span("read an item", read.item.length_bytes);
          count = read_item(read.item, read.from, read.into);
        }
        shared.with([&](Shared& all) {
          all.count += count;
          if (!progress || all.count.read_bytes - all.noted_bytes < note_bytes) return;
          all.noted_bytes = all.count.read_bytes;
          progress(file->file(), all.count.read_bytes);
        });
      }
    });
    if (done) return;
    failed = true;
    shared.with([&](Shared& all) {
      if (!all.fault) all.fault = std::move(done.fault);
    });
  };
  std::vector<std::jthread> helpers;  // joined whatever happens
  // Fewer helpers than asked for are slower, and no failure.
  capture([&] {
    for (int t = 1; t < threads && static_cast<size_t>(t) < total; ++t) helpers.emplace_back(work);
  });
  work();
  helpers.clear();
  return shared.with([](Shared& all) {
    if (all.fault) throw Error(*all.fault);
    return all.count;
  });
}

}  // namespace tessera
