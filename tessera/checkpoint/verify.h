// tessera/checkpoint/verify.h: is a checkpoint what was published? Read-only, by one process, whatever the format.
// Answers     All damage is listed and not the first alone: blocks side by side as one, up to a thousand places a file. What cannot be told
// (bytes without a digest or checksum, as in
//             stock's checkpoints between the records, and in all of safetensors) is counted as unverified and never as good.
// Errors      Damage is in the report. Throws Error(not_found) where there is no checkpoint at all, and for arguments that make no sense.
// Memory      A block a thread, and what one object takes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tessera/checkpoint/open.h"

namespace tessera {

enum class Depth : uint8_t {
  names_and_sizes,  // the head is sound, every file is there and as long as it must be
  every_byte,  // and every byte that something vouches for is what it was
};

struct VerifyOptions {
  Depth depth = Depth::every_byte;
  int threads = 1;
  std::function<void(int64_t bytes)> progress = {};  // told of bytes as they were looked at, from any of the threads
  format::Limits limits = {};
};

struct Damage {
  Fault fault;  // file, offset and what is wrong there
  std::vector<std::string> keys = {};  // whose bytes lie there, the first 16; empty where it is not about keys
};

struct VerifyReport {
  Format format = Format::dcp;
  std::string save_id;  // empty where tessera did not write it
  bool has_sidecar = false;
  std::map<std::string, double> metrics;  // what the trainer measured, as the sidecar has it
  int64_t files = 0;  // that hold the checkpoint, its metadata included
  int64_t total_bytes = 0;  // of these files
  int64_t verified_bytes = 0;  // held against a digest or a checksum, and right
  int64_t damaged_bytes = 0;  // of these files, in blocks or items that are wrong or could not be read
  int64_t unverified_bytes = 0;  // nothing tells, or nobody looked
  std::vector<Damage> damage;
  std::vector<std::string> strangers;  // what lies in the directory and is not of the checkpoint
};

VerifyReport verify(std::shared_ptr<const Storage> storage, const Path& path, const VerifyOptions& options = {});
// A directory or file of the local file system.
VerifyReport verify(const std::string& path, const VerifyOptions& options = {});

}  // namespace tessera
