#include "tests/support/sim_storage.h"

#include <utility>

namespace tessera {

namespace {

// An operation whose failure is thrown.
template <class Work>
auto operation(Troubled& troubled, const char* name, const Path& path, Work work) -> decltype(work()) {
  return troubled.operation(name, path, work, [&](int os_errno) -> decltype(work()) { throw Error(os_fault(os_errno, name, path)); });
}

class Writer final : public FileWriter {
 public:
  Writer(std::shared_ptr<Troubled> troubled, std::unique_ptr<FileWriter> below, Path file)
      : troubled_(std::move(troubled)), below_(std::move(below)), file_(std::move(file)) {}
  void write(int64_t offset_bytes, std::span<const std::byte> bytes) override {
    const size_t half = bytes.size() / 2;
    operation(*troubled_, "write", file_, [&] { below_->write(offset_bytes, bytes.first(half)); });
    operation(*troubled_, "write on", file_, [&] { below_->write(offset_bytes + static_cast<int64_t>(half), bytes.subspan(half)); });
  }
  int64_t close() override {
    return operation(*troubled_, "close", file_, [&] { return below_->close(); });
  }

 private:
  const std::shared_ptr<Troubled> troubled_;
  const std::unique_ptr<FileWriter> below_;
  const Path file_;
};

class Source final : public ByteSource {
 public:
  Source(std::shared_ptr<Troubled> troubled, std::unique_ptr<ByteSource> below)
      : troubled_(std::move(troubled)), below_(std::move(below)) {}
  int64_t size_bytes() const override { return below_->size_bytes(); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override {
    operation(*troubled_, "read", file(), [&] { below_->read(offset_bytes, into); });
  }
  std::string file() const override { return below_->file(); }
  int64_t origin_bytes() const override { return below_->origin_bytes(); }

 private:
  const std::shared_ptr<Troubled> troubled_;
  const std::unique_ptr<ByteSource> below_;
};

}  // namespace

SimStorage::SimStorage(SimProcess& process, std::shared_ptr<Storage> below, std::vector<StorageTrouble> troubles, StorageWitness witness)
    : below_(std::move(below)), troubled_(std::make_shared<Troubled>(process, std::move(troubles), std::move(witness))) {}

std::unique_ptr<FileWriter> SimStorage::create(const Path& file) {
  return std::make_unique<Writer>(troubled_, operation(*troubled_, "create", file, [&] { return below_->create(file); }), file);
}
std::unique_ptr<ByteSource> SimStorage::open(const Path& file) const {
  return std::make_unique<Source>(troubled_, operation(*troubled_, "open", file, [&] { return below_->open(file); }));
}
std::vector<DirectoryEntry> SimStorage::list(const Path& directory) const {
  return operation(*troubled_, "list", directory, [&] { return below_->list(directory); });
}
bool SimStorage::exists(const Path& path) const {
  return operation(*troubled_, "look at", path, [&] { return below_->exists(path); });
}
Path SimStorage::stage(const Path& target, const std::string& id) {
  return operation(*troubled_, "stage", target, [&] { return below_->stage(target, id); });
}
void SimStorage::sync(const Path& directory) {
  operation(*troubled_, "sync", directory, [&] { below_->sync(directory); });
}
void SimStorage::commit(const Path& staging, const Path& target, const std::string& last, Replace replace, const MayReplace& may_replace) {
  operation(*troubled_, "commit", target, [&] { below_->commit(staging, target, last, replace, may_replace); });
}
void SimStorage::commit_file(const Path& staged, const Path& target, Replace replace) {
  operation(*troubled_, "commit file", target, [&] { below_->commit_file(staged, target, replace); });
}
void SimStorage::remove(const Path& directory) {
  operation(*troubled_, "remove", directory, [&] { below_->remove(directory); });
}

}  // namespace tessera
