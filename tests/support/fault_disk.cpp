#include "tests/support/fault_disk.h"

#include <cerrno>
#include <thread>

#include "tessera/base/bytes.h"

namespace tessera {
namespace {

using Kind = Trouble::Kind;

bool crashes(Kind kind) { return kind == Kind::crash_before || kind == Kind::crash_after || kind == Kind::crash_torn; }

int fail(int os_errno) {
  errno = os_errno;
  return -1;
}

}  // namespace

const char* name(Call call) {
  constexpr const char* names[] = {"openat",    "create",   "close", "pread",   "pwrite", "fsync",  "mkdirat", "linkat",
                                   "renameat2", "unlinkat", "fstat", "fstatat", "fchown", "fchmod", "list"};
  return names[static_cast<size_t>(call)];
}

bool changes_disk(Call call) {
  switch (call) {
    case Call::create:
    case Call::pwrite:
    case Call::fsync:
    case Call::mkdirat:
    case Call::linkat:
    case Call::renameat2:
    case Call::unlinkat: return true;
    default: return false;
  }
}

std::string describe(const Operation& operation) {
  return std::string(name(operation.call)) + " " + operation.path + (operation.hit ? " (hit)" : "");
}

void FaultDisk::add(Rule rule) {
  state_.with([&](State& state) { state.rules.push_back({std::move(rule), 0}); });
}
std::vector<Operation> FaultDisk::operations() const {
  return state_.with([](State& state) { return state.operations; });
}
void FaultDisk::forget() {
  state_.with([](State& state) { std::vector<Operation>().swap(state.operations); });
}

std::string FaultDisk::hit() const {
  return state_.with([](State& state) { return state.hit; });
}

std::string FaultDisk::path_of(int file, const std::string& name) {
  if (name.starts_with('/')) return name;
  return state_.with([&](State& state) {
    const auto found = state.paths.find(file);
    const std::string path = found == state.paths.end() ? "?" : found->second;
    return name.empty() ? path : path + "/" + name;
  });
}

FaultDisk::Fate FaultDisk::begin(Call call, int file, const std::string& name) {
  const Operation operation{call, path_of(file, name)};
  return state_.with([&](State& state) -> Fate {
    if (state.crashed) return {true, {Kind::crash_before}};
    state.operations.push_back(operation);
    Fate fate;
    for (Counted& counted : state.rules) {
      const Rule& rule = counted.rule;
      if (rule.about && !rule.about(operation)) continue;
      ++counted.seen;
      if (counted.seen != rule.at && !(rule.for_ever && counted.seen > rule.at)) continue;
      if (!fate.hit) fate = {true, rule.trouble};
    }
    if (fate.hit && state.hit.empty()) state.hit = describe(operation);
    state.operations.back().hit = fate.hit;
    if (fate.hit && crashes(fate.trouble.kind)) state.crashed = true;
    return fate;
  });
}

// For the calls on which nothing can be short, lost or garbled: those troubles leave them alone.
template <class Work>
auto FaultDisk::call(Call which, int file, const std::string& name, Work work) {
  using Result = decltype(work());
  const Fate fate = begin(which, file, name);
  if (!fate.hit) return work();
  switch (fate.trouble.kind) {
    case Kind::fail: return Result{fail(fate.trouble.os_errno)};
    case Kind::crash_before: return Result{fail(EIO)};
    case Kind::crash_after:
    case Kind::crash_torn: work(); return Result{fail(EIO)};
    case Kind::wait: std::this_thread::yield(); return work();
    default: return work();
  }
}

int FaultDisk::openat(int directory, const std::string& name, int flags, mode_t mode) {
  const std::string path = path_of(directory, name);
  int file = -1;
  const int told = call((flags & O_CREAT) ? Call::create : Call::openat, directory, name, [&] {
    file = inner_.openat(directory, name, flags, mode);
    if (file >= 0) state_.with([&](State& state) { state.paths[file] = path; });
    return file;
  });
  if (told < 0 && file >= 0) {  // nobody will close it
    inner_.close(file);
    errno = EIO;
  }
  return told;
}

// A descriptor is closed whatever befalls the call, as the system does it too.
int FaultDisk::close(int file) {
  const Fate fate = begin(Call::close, file);
  state_.with([&](State& state) { state.paths.erase(file); });
  const int closed = inner_.close(file);
  if (!fate.hit) return closed;
  if (fate.trouble.kind == Kind::fail) return fail(fate.trouble.os_errno);
  return crashes(fate.trouble.kind) ? fail(EIO) : closed;
}

ssize_t FaultDisk::pread(int file, void* into, size_t count, off_t offset) {
  const Fate fate = begin(Call::pread, file);
  if (!fate.hit) return inner_.pread(file, into, count, offset);
  switch (fate.trouble.kind) {
    case Kind::fail: return fail(fate.trouble.os_errno);
    case Kind::shorten: return inner_.pread(file, into, count ? 1 : 0, offset);
    case Kind::garble: {
      const ssize_t got = inner_.pread(file, into, count, offset);
      if (got > 0) static_cast<std::byte*>(into)[got / 2] ^= std::byte{0x10};
      return got;
    }
    case Kind::wait: std::this_thread::yield(); [[fallthrough]];
    case Kind::lose: return inner_.pread(file, into, count, offset);
    default: return fail(EIO);
  }
}

ssize_t FaultDisk::pwrite(int file, const void* from, size_t count, off_t offset) {
  const Fate fate = begin(Call::pwrite, file);
  if (!fate.hit) return inner_.pwrite(file, from, count, offset);
  switch (fate.trouble.kind) {
    case Kind::fail: return fail(fate.trouble.os_errno);
    case Kind::shorten: return inner_.pwrite(file, from, count ? 1 : 0, offset);
    case Kind::lose: return static_cast<ssize_t>(count);
    case Kind::garble: {
      const auto* bytes = static_cast<const std::byte*>(from);
      Bytes changed(bytes, bytes + count);
      if (!changed.empty()) changed[count / 2] ^= std::byte{0x10};
      return inner_.pwrite(file, changed.data(), count, offset);
    }
    case Kind::wait: std::this_thread::yield(); return inner_.pwrite(file, from, count, offset);
    case Kind::crash_after: inner_.pwrite(file, from, count, offset); return fail(EIO);
    case Kind::crash_torn: inner_.pwrite(file, from, count / 2, offset); return fail(EIO);
    case Kind::crash_before: break;
  }
  return fail(EIO);
}

int FaultDisk::start_writeback(int file, off_t offset, off_t count) { return inner_.start_writeback(file, offset, count); }  // a wish only
int FaultDisk::fsync(int file) {
  const Fate fate = begin(Call::fsync, file);
  if (!fate.hit) return inner_.fsync(file);
  switch (fate.trouble.kind) {
    case Kind::fail: return fail(fate.trouble.os_errno);
    case Kind::lose: return 0;
    case Kind::crash_before:
    case Kind::crash_torn: return fail(EIO);
    case Kind::crash_after: inner_.fsync(file); return fail(EIO);
    case Kind::wait: std::this_thread::yield(); break;
    default: break;
  }
  return inner_.fsync(file);
}

int FaultDisk::mkdirat(int directory, const std::string& name, mode_t mode) {
  return call(Call::mkdirat, directory, name, [&] { return inner_.mkdirat(directory, name, mode); });
}
int FaultDisk::linkat(int from, const std::string& old_name, int to, const std::string& new_name, int flags) {
  return call(Call::linkat, to, new_name, [&] { return inner_.linkat(from, old_name, to, new_name, flags); });
}
int FaultDisk::renameat2(int from, const std::string& old_name, int to, const std::string& new_name, unsigned flags) {
  return call(Call::renameat2, to, new_name, [&] { return inner_.renameat2(from, old_name, to, new_name, flags); });
}
int FaultDisk::unlinkat(int directory, const std::string& name, int flags) {
  return call(Call::unlinkat, directory, name, [&] { return inner_.unlinkat(directory, name, flags); });
}
int FaultDisk::fstat(int file, struct stat& status) {
  return call(Call::fstat, file, "", [&] { return inner_.fstat(file, status); });
}
int FaultDisk::fstatat(int directory, const std::string& name, struct stat& status, int flags) {
  return call(Call::fstatat, directory, name, [&] { return inner_.fstatat(directory, name, status, flags); });
}
int FaultDisk::fchown(int file, uid_t owner, gid_t group) {
  return call(Call::fchown, file, "", [&] { return inner_.fchown(file, owner, group); });
}
int FaultDisk::fchmod(int file, mode_t mode) {
  return call(Call::fchmod, file, "", [&] { return inner_.fchmod(file, mode); });
}
int FaultDisk::list(int directory, std::vector<DirectoryEntry>& entries) {
  return call(Call::list, directory, "", [&] { return inner_.list(directory, entries); });
}
bool FaultDisk::is_mount(int directory) { return inner_.is_mount(directory); }  // which cannot fail

}  // namespace tessera
