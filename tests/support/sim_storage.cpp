#include "tests/support/sim_storage.h"

#include <utility>

namespace tessera {

class SimStorage::Troubled {
 public:
  Troubled(SimProcess& process, std::vector<StorageTrouble> troubles, StorageWitness witness)
      : process_(process), troubles_(std::move(troubles)), witness_(std::move(witness)) {}

  // Runs `work` as one operation of the process.
  template <class Work>
  auto operation(const char* name, const Path& path, Work work) {
    process_.sleep(SimSpan(process_.world().random.in(10'000, 2'000'000)));
    const int64_t number = count_++;
    const StorageTrouble* failing = nullptr;
    for (const StorageTrouble& trouble : troubles_) {
      if (number != trouble.operation && !(trouble.for_ever && number > trouble.operation)) continue;
      if (trouble.takes != SimSpan{}) process_.sleep(trouble.takes);
      if (trouble.os_errno != 0) failing = &trouble;
    }
    process_.world().trace(process_.name(), std::string(name) + " " + path + (failing ? " fails" : ""));
    if (failing && !failing->after_effect) fail(*failing, name, path);
    if (witness_) witness_(name, path);
    if constexpr (std::is_void_v<decltype(work())>) {
      work();
      if (failing) fail(*failing, name, path);
    } else {
      auto value = work();
      if (failing) fail(*failing, name, path);
      return value;
    }
  }
  int64_t operations() const { return count_; }
  int64_t failures() const { return failures_; }

 private:
  [[noreturn]] void fail(const StorageTrouble& trouble, const char* name, const Path& path) {
    ++failures_;
    throw Error(os_fault(trouble.os_errno, name, path));
  }
  SimProcess& process_;
  const std::vector<StorageTrouble> troubles_;
  const StorageWitness witness_;
  int64_t count_ = 0;
  int64_t failures_ = 0;
};

namespace {

class Writer final : public FileWriter {
 public:
  Writer(std::shared_ptr<SimStorage::Troubled> troubled, std::unique_ptr<FileWriter> below, Path file)
      : troubled_(std::move(troubled)), below_(std::move(below)), file_(std::move(file)) {}
  void write(int64_t offset_bytes, std::span<const std::byte> bytes) override {
    const size_t half = bytes.size() / 2;
    troubled_->operation("write", file_, [&] { below_->write(offset_bytes, bytes.first(half)); });
    troubled_->operation("write on", file_, [&] { below_->write(offset_bytes + static_cast<int64_t>(half), bytes.subspan(half)); });
  }
  int64_t close() override {
    return troubled_->operation("close", file_, [&] { return below_->close(); });
  }

 private:
  const std::shared_ptr<SimStorage::Troubled> troubled_;
  const std::unique_ptr<FileWriter> below_;
  const Path file_;
};

class Source final : public ByteSource {
 public:
  Source(std::shared_ptr<SimStorage::Troubled> troubled, std::unique_ptr<ByteSource> below)
      : troubled_(std::move(troubled)), below_(std::move(below)) {}
  int64_t size_bytes() const override { return below_->size_bytes(); }
  void read(int64_t offset_bytes, std::span<std::byte> into) const override {
    troubled_->operation("read", file(), [&] { below_->read(offset_bytes, into); });
  }
  std::string file() const override { return below_->file(); }
  int64_t origin_bytes() const override { return below_->origin_bytes(); }

 private:
  const std::shared_ptr<SimStorage::Troubled> troubled_;
  const std::unique_ptr<ByteSource> below_;
};

}  // namespace

SimStorage::SimStorage(SimProcess& process, std::shared_ptr<Storage> below, std::vector<StorageTrouble> troubles, StorageWitness witness)
    : below_(std::move(below)), troubled_(std::make_shared<Troubled>(process, std::move(troubles), std::move(witness))) {}

int64_t SimStorage::operations() const { return troubled_->operations(); }
int64_t SimStorage::failures() const { return troubled_->failures(); }

std::unique_ptr<FileWriter> SimStorage::create(const Path& file) {
  return std::make_unique<Writer>(troubled_, troubled_->operation("create", file, [&] { return below_->create(file); }), file);
}
std::unique_ptr<ByteSource> SimStorage::open(const Path& file) const {
  return std::make_unique<Source>(troubled_, troubled_->operation("open", file, [&] { return below_->open(file); }));
}
std::vector<DirectoryEntry> SimStorage::list(const Path& directory) const {
  return troubled_->operation("list", directory, [&] { return below_->list(directory); });
}
bool SimStorage::exists(const Path& path) const {
  return troubled_->operation("look at", path, [&] { return below_->exists(path); });
}
Path SimStorage::stage(const Path& target, const std::string& id) {
  return troubled_->operation("stage", target, [&] { return below_->stage(target, id); });
}
void SimStorage::sync(const Path& directory) {
  troubled_->operation("sync", directory, [&] { below_->sync(directory); });
}
void SimStorage::commit(const Path& staging, const Path& target, const std::string& last, Replace replace) {
  troubled_->operation("commit", target, [&] { below_->commit(staging, target, last, replace); });
}
void SimStorage::commit_file(const Path& staged, const Path& target, Replace replace) {
  troubled_->operation("commit file", target, [&] { below_->commit_file(staged, target, replace); });
}
void SimStorage::remove(const Path& directory) {
  troubled_->operation("remove", directory, [&] { below_->remove(directory); });
}

}  // namespace tessera
