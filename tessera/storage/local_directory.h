// tessera/storage/local_directory.h: what a local storage does to directories, one system call or one walk each.
// Errors      Error with `path`, which is how the thing is known below the root, and errno.
#pragma once

#include <string>
#include <vector>

#include "tessera/storage/descriptor.h"

namespace tessera {

// A name in an open directory: what the *at calls take.
struct Slot {
  Descriptor parent;
  std::string name;
};
// The slot of `path` below `root`. Error(invalid_argument) for the root itself.
Slot slot_of(const LocalRoot& root, const Path& path);

std::vector<DirectoryEntry> entries_of(const Descriptor& directory, const Path& path);

// Makes a directory, its name durable. False if the name is taken.
bool make_directory(const Descriptor& parent, const std::string& name, const Path& path);
// Makes the root, and what is missing above it; their names are durable then, whoever made them. `was_synced`: if the root is
// there, that is known already.
void make_root(const LocalRoot& root, bool was_synced);

// Gives a new directory the mode of the one whose place it will take, and its owner and group where that is allowed.
void inherit(const Descriptor& from, const Descriptor& to, const Path& path);

// Moves a file or directory from one directory to another, where the name must be free: Error(exists) if it is not. An Error
// means that nothing moved.
void move_to_free_name(const Descriptor& from, const Descriptor& to, const std::string& name, const Path& path);
// The same from one name to another.
void move_to_free_name(const Slot& from, const Slot& to, const Path& path);

// Deletes a directory and all in it, following no link. Nothing happens if it is not there.
void delete_directory(const Descriptor& parent, const std::string& name, const Path& path);

}  // namespace tessera
