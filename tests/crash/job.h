// tests/crash/job.h: a job that saves tiny states and keeps a record, away from the disk, of what it was promised.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tessera/comm/comm.h"
#include "tessera/storage/local_storage.h"
#include "tests/support/sim_disk.h"

namespace tessera {

// One save of `version` at `path`: begun and acknowledged when the disk had seen so many changes.
struct Promise {
  Path path;
  int64_t version = 0;
  size_t begun = 0;
  std::optional<size_t> kept = {};  // nothing: it was never acknowledged
  std::vector<Path> retires = {};   // what may go once this one stands
  bool has_gap = false;             // for a moment there may be neither the old nor the new, only the old under a trash name
};
using Promises = std::vector<Promise>;

// What is wrong with a disk on which the first `moment` changes of `promises` were made: one line for each thing lost or half there.
std::vector<std::string> broken_promises(FileSystem& files, const Promises& promises, size_t moment);

class Job {
 public:
  // `files` stands between the job and `disk`, or is the same.
  Job(FileSystem& files, const SimDisk& disk, int ranks, Promises so_far = {});

  // Each returns whether it was acknowledged on any rank; `fault()` says why not.
  bool save(const Path& path, Replace replace = Replace::never);
  bool save_step(int64_t step, int keep_last = 0);
  bool save_next_step(int keep_last = 0);  // one that nobody tried before
  bool convert(const Path& from, const Path& to, int files = 1);  // by one process alone
  bool convert_anew(const Path& from, const std::string& ending);  // to a name that nobody tried before
  // Loads `path`, and tells whether every rank got that version, bit for bit; Error(internal) stands in faults() if one got anything else.
  bool load(const Path& path, int64_t version);

  const Promises& promises() const { return promises_; }
  // What the ranks that failed were told the last time.
  const std::vector<Fault>& faults() const { return faults_; }

 private:
  bool keep(Promise promise, int ranks, const std::function<void(Comm&)>& body);
  // How many ranks it went well on. A rank that failed leaves, so that the others need not wait.
  int on_ranks(int ranks, const std::function<void(Comm&)>& body);

  const std::shared_ptr<LocalStorage> storage_;
  const SimDisk& disk_;
  const int ranks_;
  Promises promises_;
  std::vector<Fault> faults_;
  int64_t next_version_ = 1;
};

inline constexpr const char* jobs_root = "/runs";

}  // namespace tessera
