#include "tessera/storage/local_commit.h"

#include <stdio.h>  // RENAME_EXCHANGE

#include <algorithm>
#include <cerrno>

#include "tessera/storage/local_directory.h"
#include "tessera/storage/names.h"

namespace tessera {
namespace {

Slot sibling(const LocalRoot& root, const Path& path, std::string name) {
  return {open_directory(root, split(path).parent), std::move(name)};
}

bool rename_slot(const Slot& from, const Slot& to, unsigned flags = 0) {
  return from.parent.files().renameat2(from.parent.number(), from.name, to.parent.number(), to.name, flags) == 0;
}

[[noreturn]] void refuse(const Path& target, std::string what, std::string hint) {
  throw Error({.code = Code::exists, .what = std::move(what), .file = target, .hint = std::move(hint)});
}

bool is_real_directory(const Slot& at, const Path& path) {
  struct stat status{};
  const bool there = at.parent.files().fstatat(at.parent.number(), at.name, status, AT_SYMLINK_NOFOLLOW) == 0;
  if (!there && errno != ENOENT) throw Error(os_fault(errno, "look for", path));
  return there && S_ISDIR(status.st_mode);
}

// The new checkpoint stands and is durable: failing to delete the old one must not make the save a failure. What is left
// has a trash name.
void delete_quietly(const Slot& trash) {
  capture([&] { delete_directory(trash.parent, trash.name, trash.name); });
}

void ask(const MayReplace& may_replace, const Path& old) {
  if (may_replace) may_replace(old);
}

// What must stay was swapped out, as somebody else had put it there in between: it goes back to its place. Where even that
// fails, it gets a name that nobody removes.
void swap_back(const Slot& from, const Slot& to) {
  if (rename_slot(from, to, RENAME_EXCHANGE)) {
    capture([&] { sync_descriptor(to.parent, to.name); });
  } else {
    from.parent.files().renameat2(from.parent.number(), from.name, from.parent.number(), aside_name(), 0);
  }
}

// False if the file system cannot swap two directories.
bool exchange(const LocalRoot& root, const Path& staging, const Path& target, const MayReplace& may_replace) {
  const Slot from = slot_of(root, staging);
  const Slot to = slot_of(root, target);
  // The new content takes a trash name before the swap, so that the old one has it from the swap on, whatever fails after that:
  // never the staging name, which whoever cleans up after a failed save deletes.
  const Slot trash = sibling(root, staging, trash_name());
  if (!rename_slot(from, trash)) throw Error(os_fault(errno, "move", staging));
  if (!rename_slot(trash, to, RENAME_EXCHANGE)) {
    const int why = errno;
    const bool unsupported = why == EINVAL || why == ENOSYS || why == EOPNOTSUPP;
    const bool back = rename_slot(trash, from);
    if (unsupported && back) return false;
    throw Error(unsupported ? os_fault(errno, "move back", staging) : os_fault(why, "exchange", target));
  }
  const auto allowed = capture([&] { ask(may_replace, below(split(staging).parent, trash.name)); });
  if (!allowed) {
    swap_back(trash, to);
    rename_slot(trash, from);
    throw Error(allowed.fault);
  }
  sync_descriptor(to.parent, target);
  delete_quietly(trash);
  return true;
}

}  // namespace

void commit_beside(const LocalRoot& root, const Path& staging, const Path& target, Replace replace, const MayReplace& may_replace) {
  const Slot from = slot_of(root, staging);
  const Slot to = slot_of(root, target);
  if (rename_slot(from, to)) return sync_descriptor(to.parent, target);
  const int why = errno;
  if (why == ENOTDIR) refuse(target, "something is there that is no directory", "choose another place");
  if (why != ENOTEMPTY && why != EEXIST) throw Error(os_fault(why, "rename", target));
  if (replace == Replace::never || !is_real_directory(to, target)) {
    refuse(target, "something is there already", "choose another place, or ask for it to be replaced");
  }
  ask(may_replace, target);
  if (exchange(root, staging, target, may_replace)) return;
  if (replace == Replace::with_gap) return replace_with_gap(root, staging, target, may_replace);
  throw Error({.code = Code::unsupported,
               .what = "this file system cannot swap two directories",
               .file = target,
               .hint = "save elsewhere, or replace with a gap, which risks a moment without a checkpoint"});
}

void replace_with_gap(const LocalRoot& root, const Path& staging, const Path& target, const MayReplace& may_replace) {
  const Slot from = slot_of(root, staging);
  const Slot to = slot_of(root, target);
  const std::string name = aside_name();
  const Slot aside = sibling(root, target, name);
  if (!rename_slot(to, aside)) throw Error(os_fault(errno, "move aside", target));
  const auto moved = capture([&] {
    ask(may_replace, below(split(target).parent, name));
    if (!rename_slot(from, to)) throw Error(os_fault(errno, "rename", target));
  });
  if (!moved) {
    rename_slot(aside, to);
    throw Error(moved.fault);
  }
  sync_descriptor(to.parent, target);
  // Only now may it be taken for trash, and only once that is durable may anything in it go.
  const Slot trash = sibling(root, target, trash_name());
  if (rename_slot(aside, trash) && capture([&] { sync_descriptor(to.parent, target); })) delete_quietly(trash);
}

void commit_inside(const LocalRoot& root, const Path& staging, const Path& target, const std::string& last) {
  const Descriptor to = open_directory(root, target);
  const Descriptor from = open_directory(root, staging);
  // Another save may be staging here as well: whoever comes second finds the first one's files.
  if (!std::ranges::all_of(entries_of(to, target), is_of_unfinished_save)) {
    refuse(target, "something is there already, and a directory whose parent is closed to us cannot be replaced",
           "choose another place, or empty this one; tessera gc removes what a save that was cut short left here");
  }
  std::vector<std::string> moved;
  const auto appeared = capture([&] {
    for (const DirectoryEntry& entry : entries_of(from, staging)) {
      if (entry.name == last) continue;
      move_to_free_name(from, to, entry.name, target + "/" + entry.name);
      moved.push_back(entry.name);
    }
    sync_descriptor(to, target);
    move_to_free_name(from, to, last, target + "/" + last);
  });
  if (!appeared) {
    for (const std::string& name : moved) {
      capture([&] { move_to_free_name(to, from, name, staging + "/" + name); });  // the first failure is the one to tell
    }
    throw Error(appeared.fault);
  }
  sync_descriptor(to, target);
  delete_quietly(slot_of(root, staging));  // empty now
}

}  // namespace tessera
