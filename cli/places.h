// cli/places.h: what a PATH on the command line stands for: one checkpoint, or a root of steps.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tessera/checkpoint/checkpoint.h"

namespace tessera::cli {

// A path as messages have it: without slashes at its end.
std::string plain_path(std::string path);

// A checkpoint whose errors say where it is, since a command may be about two.
class NamedCheckpoint {
 public:
  NamedCheckpoint(std::string path, Checkpoint checkpoint) : path_(std::move(path)), checkpoint_(std::move(checkpoint)) {}
  const std::string& path() const { return path_; }
  const Manifest& manifest() const { return checkpoint_.manifest(); }
  void read(const std::string& key, const Box& box, const View& into) const;
  Value object(const std::string& key) const;

 private:
  std::string path_;
  Checkpoint checkpoint_;
};

// A root of steps is an error whose hint names its latest step.
NamedCheckpoint open_checkpoint(const std::string& path);

struct Steps {
  std::shared_ptr<const Storage> root;
  std::vector<std::string> names;  // ascending, at least one
  Checkpoint open(const std::string& name) const { return Checkpoint::open(root, name); }
};
// The steps of a root; nothing where `path` is a checkpoint itself or holds none.
std::optional<Steps> steps_at(const std::string& path);

}  // namespace tessera::cli
