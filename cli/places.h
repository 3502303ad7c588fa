// cli/places.h: what a PATH on the command line stands for: one checkpoint, or a root of steps.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tessera/checkpoint/checkpoint.h"
#include "tessera/transfer/pieces.h"

namespace tessera::cli {

// A path as messages have it: without slashes at its end.
std::string plain_path(std::string path);

// The file of an error about the checkpoint at `path`, as seen from where the person stands. Errors name files from the
// checkpoint's parent on, "<directory>/<file>", or from the checkpoint on.
std::string seen_from_outside(const std::string& path, const std::string& file);

inline constexpr int64_t piece_bytes = int64_t{16} << 20;  // of a tensor that is read whole

// A checkpoint whose errors say where it is, since a command may be about two.
class NamedCheckpoint {
 public:
  NamedCheckpoint(std::string path, Checkpoint checkpoint) : path_(std::move(path)), checkpoint_(std::move(checkpoint)) {}
  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return checkpoint_.manifest(); }
  TensorReader reader(const std::string& key) const { return checkpoint_.reader(key); }
  Value object(const std::string& key) const;
  const Checkpoint& checkpoint() const { return checkpoint_; }
  // Runs `work` on the checkpoint; an Error leaves with the path before its file.
  template <class Work>
  auto naming(Work work) const {
    auto outcome = capture(work);
    if (!outcome) outcome.fault.file = seen_from_outside(path_, outcome.fault.file);
    return std::move(outcome).or_throw();
  }

 private:
  std::string path_;
  Checkpoint checkpoint_;
};

// A root of steps is an error whose hint names its latest step.
NamedCheckpoint open_checkpoint(const std::string& path, const OpenOptions& options = {});

struct Steps {
  std::shared_ptr<const Storage> root;
  std::vector<std::string> names;  // ascending, at least one
  Checkpoint open(const std::string& name) const { return Checkpoint::open(root, name); }
};
// The steps of a root; nothing where `path` is a checkpoint itself or holds none.
std::optional<Steps> steps_at(const std::string& path);

}  // namespace tessera::cli
