#include "tests/support/persistence.h"

#include <algorithm>

namespace tessera {
namespace {

using Kind = Change::Kind;

bool flip(Random& random) { return random() & 1; }

// Whether each of the first `count` changes is covered by a sync that returned.
std::vector<bool> durable(const Recording& recording, size_t count) {
  std::vector<bool> covered(count);
  std::map<int, bool> synced_later;
  for (size_t i = count; i-- > 0;) {
    const Change& change = recording.changes[i];
    if (change.kind == Kind::sync) synced_later[change.inode] = true;
    if (change.kind == Kind::write) covered[i] = synced_later[change.inode];
    if (change.kind == Kind::names) {
      covered[i] = std::ranges::any_of(change.names, [&](const Change::Name& name) { return synced_later[name.directory]; });
    }
  }
  return covered;
}

// Puts some of a write into a file, a sector at a time: each as it was, as it was written, or garbage.
void tear(Bytes& data, const Change& write, size_t sector_bytes, bool garbage, Random& random) {
  const auto begin = static_cast<size_t>(write.offset_bytes);
  const size_t end = begin + write.bytes.size();
  if (data.size() < end) data.resize(end);
  for (size_t at = begin; at < end;) {
    const size_t next = std::min(end, (at / sector_bytes + 1) * sector_bytes);
    const bool taken = flip(random);
    for (size_t i = at; taken && i < next; ++i) data[i] = write.bytes[i - begin];
    if (!taken && garbage && flip(random)) {
      for (size_t i = at; i < next; ++i) data[i] = static_cast<std::byte>(random());
    }
    at = next;
  }
}

// What happens to all unsynced writes of one file: the ways in which real file systems lose them, and any mixture.
void lose_data(Bytes& data, const std::vector<const Change*>& writes, Random& random) {
  const size_t least = data.size();
  size_t most = least;
  for (const Change* write : writes) most = std::max(most, static_cast<size_t>(write->offset_bytes) + write->bytes.size());
  const size_t sector_bytes = flip(random) ? 512 : 4096;
  const auto fate = random() % 5;  // lost, all there, torn, torn with garbage, zeros of the right length
  if (fate == 0) return;
  std::vector<const Change*> order = writes;
  if (fate != 1) std::ranges::shuffle(order, random);
  for (const Change* write : order) {
    if (fate == 1) put(data, *write);
    else if (fate != 4) tear(data, *write, sector_bytes, fate == 3, random);
  }
  data.resize(most);
  if (flip(random)) data.resize(least + random() % (most - least + 1));
}

// Which unsynced changes of names survive: none, all, those before some moment, as a journal has it, or any.
class NameFate {
 public:
  NameFate(Survives survives, size_t count, Random& random) : random_(random) {
    if (survives == Survives::everything || survives == Survives::names) until_ = count;
    if (survives != Survives::anything) return;
    const auto kind = random() % 4;
    any_ = kind > 1;
    if (kind == 0) until_ = count;
    if (kind == 1) until_ = random() % (count + 1);
  }
  bool survives(size_t at) { return any_ ? flip(random_) : at < until_; }

 private:
  Random& random_;
  bool any_ = false;
  size_t until_ = 0;
};

}  // namespace

DiskImage crash_state(const Recording& recording, size_t count, Survives survives, Random& random) {
  const std::vector<bool> covered = durable(recording, count);
  NameFate fate(survives, count, random);
  DiskImage image = recording.base;
  std::map<int, std::vector<const Change*>> loose;  // unsynced writes by file
  for (size_t i = 0; i < count; ++i) {
    const Change& change = recording.changes[i];
    bool there = covered[i];
    if (!there && change.kind == Kind::names) there = fate.survives(i);
    if (!there && change.kind == Kind::write) {
      there = survives == Survives::everything || survives == Survives::data;
      if (survives == Survives::anything) loose[change.inode].push_back(&change);
    }
    if (there) redo(image, change);
    // Whatever leads to it or not, an inode that was made has its kind.
    for (const Change::Name& name : change.names) {
      if (name.inode != 0) image.try_emplace(name.inode, Inode{.is_directory = name.is_directory, .mode = 0755});
    }
  }
  for (const auto& [inode, writes] : loose) lose_data(image[inode].data, writes, random);
  return image;
}

}  // namespace tessera
