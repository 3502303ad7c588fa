#include "cli/ls.h"

#include <fmt/format.h>

#include "cli/places.h"
#include "cli/sha256.h"
#include "cli/table.h"
#include "cli/text.h"
#include "cli/value_json.h"
#include "tessera/base/human_bytes.h"

namespace tessera::cli {
namespace {

constexpr size_t value_columns = 48;  // of an object's value in the table

std::string digest_of(const NamedCheckpoint& checkpoint, const std::string& key, const TensorEntry& tensor) {
  Sha256 digest;
  PieceBuffer buffer;
  TensorReader reader = checkpoint.reader(key);
  for_each_piece(tensor.sizes, piece_bytes / element_bytes(tensor.dtype),
                 [&](const Box& box) { digest.add(checkpoint.naming([&] { return buffer.read(reader, box, tensor.dtype); })); });
  return digest.finish();
}

int64_t bytes_of(const TensorEntry& tensor) { return volume(tensor.sizes) * element_bytes(tensor.dtype); }

struct Totals {
  int64_t tensors = 0;
  int64_t objects = 0;
  int64_t chunks = 0;
  int64_t elements = 0;
  int64_t bytes = 0;
};

Totals totals_of(const Manifest& manifest) {
  Totals totals;
  for (const auto& [key, entry] : manifest.entries) {
    const auto* tensor = std::get_if<TensorEntry>(&entry.is);
    totals.tensors += tensor ? 1 : 0;
    totals.objects += tensor ? 0 : 1;
    if (!tensor) continue;
    totals.chunks += static_cast<int64_t>(tensor->chunks.size());
    totals.elements += volume(tensor->sizes);
    totals.bytes += bytes_of(*tensor);
  }
  return totals;
}

std::string counted(int64_t count, std::string_view thing) { return fmt::format("{} {}{}", count, thing, count == 1 ? "" : "s"); }

std::string summary(const Manifest& manifest) {
  const Totals totals = totals_of(manifest);
  const std::string writer = manifest.writer_version >= 0
                                 ? fmt::format("tessera/{}, save {}", manifest.writer_version, printable(manifest.save_id))
                                 : "PyTorch or another tool";
  return fmt::format("{} in {}: {}, {}; {}; written by {}\n", counted(totals.tensors, "tensor"), counted(totals.chunks, "chunk"),
                     counted(totals.elements, "element"), human_bytes(totals.bytes), counted(totals.objects, "object"), writer);
}

std::string contents_table(const NamedCheckpoint& checkpoint, bool with_digest) {
  Table table({{"key"}, {"dtype"}, {"shape"}, {"chunks", Align::right}, {"bytes", Align::right}, {"value"}, {"sha256"}});
  for (const auto& [key, entry] : checkpoint.manifest().entries) {
    if (const auto* tensor = std::get_if<TensorEntry>(&entry.is)) {
      table.add({key, std::string(name(tensor->dtype)), to_string(tensor->sizes), std::to_string(tensor->chunks.size()),
                 std::to_string(bytes_of(*tensor)), "", with_digest ? digest_of(checkpoint, key, *tensor) : ""});
    } else {
      table.add({key, "object", "", "", "", shortened(printable(to_string(checkpoint.object(key))), value_columns), ""});
    }
  }
  return table.text() + summary(checkpoint.manifest());
}

std::string tensor_json(const NamedCheckpoint& checkpoint, const std::string& key, const TensorEntry& tensor, bool with_digest) {
  std::string json = fmt::format(R"({{"kind": "tensor", "dtype": "{}", "shape": {})", name(tensor.dtype), sizes_json(tensor.sizes));
  if (with_digest) json += fmt::format(R"(, "sha256": "{}")", digest_of(checkpoint, key, tensor));
  return json + "}";
}

std::string contents_json(const NamedCheckpoint& checkpoint, bool with_digest) {
  std::string lines;
  for (const auto& [key, entry] : checkpoint.manifest().entries) {
    const auto* tensor = std::get_if<TensorEntry>(&entry.is);
    const std::string json = tensor ? tensor_json(checkpoint, key, *tensor, with_digest)
                                    : fmt::format(R"({{"kind": "object", "value": {}}})", value_json(checkpoint.object(key)));
    lines += fmt::format("{}\n  {}: {}", lines.empty() ? "" : ",", json_string(key), json);
  }
  return fmt::format("{{\n \"entries\": {{{}\n }}\n}}\n", lines);
}

// One row a step. A step that does not open is listed with its reason and makes the exit code 1.
Output steps_listed(const Steps& steps, bool as_json) {
  Table table({{"step"}, {"tensors", Align::right}, {"objects", Align::right}, {"bytes", Align::right}, {"damage"}});
  std::string lines;
  Output output;
  for (const std::string& name : steps.names) {
    const auto totals = capture([&] { return totals_of(steps.open(name).manifest()); });
    const std::string damage = totals ? "" : describe(totals.fault);
    const Totals t = totals.value.value_or(Totals{});
    if (!totals) output.exit_code = exit_differs;
    table.add({name, totals ? std::to_string(t.tensors) : "", totals ? std::to_string(t.objects) : "",
               totals ? std::to_string(t.bytes) : "", damage});
    const std::string json = totals ? fmt::format(R"({{"tensors": {}, "objects": {}, "bytes": {}}})", t.tensors, t.objects, t.bytes)
                                    : fmt::format(R"({{"damage": {}}})", json_string(damage));
    lines += fmt::format("{}\n  {}: {}", lines.empty() ? "" : ",", json_string(name), json);
  }
  output.text = as_json ? fmt::format("{{\n \"steps\": {{{}\n }}\n}}\n", lines)
                        : table.text() + fmt::format("{}; the latest is {}\n", counted(static_cast<int64_t>(steps.names.size()), "step"),
                                                     steps.names.back());
  return output;
}

}  // namespace

Output ls(const LsOptions& options) {
  const std::string path = plain_path(options.path);
  if (const auto steps = steps_at(path)) {
    if (options.digest || !options.keys.empty()) {
      throw Error({.code = Code::invalid_argument,
                   .what = (options.digest ? "--digest needs" : "keys need") + (" one checkpoint, and " + path) + " is a root of steps",
                   .hint = "name a step, as in " + path + "/" + steps->names.back()});
    }
    return steps_listed(*steps, options.json);
  }
  const NamedCheckpoint checkpoint = open_checkpoint(path, {.rank = options.rank, .keys = options.keys});
  return {options.json ? contents_json(checkpoint, options.digest) : contents_table(checkpoint, options.digest)};
}

}  // namespace tessera::cli
