// tessera/exchange/target.h: the formats that a selection can be written in. Each function stages, writes and publishes.
#pragma once

#include "tessera/exchange/convert.h"
#include "tessera/exchange/selection.h"

namespace tessera {

void write_dcp(Selection& selection, Storage& storage, const Path& target, const ConvertOptions& options);
// A file where the target's name ends in .safetensors, else a directory of one or several with an index.
void write_safetensors(Selection& selection, Storage& storage, const Path& target, const ConvertOptions& options);
void write_torch(Selection& selection, Storage& storage, const Path& target, const ConvertOptions& options);

// Early word, before gigabytes are written; the commit has the last one.
void refuse_taken(const Storage& storage, const Path& target, Replace replace);

// Runs `fill` on a new staging file and makes it appear as `target`. What goes wrong leaves nothing behind.
void publish_file(Storage& storage, const Path& target, Replace replace, const std::function<void(FileWriter&)>& fill);
// The same for a directory, whose last file is `last`.
void publish_directory(Storage& storage, const Path& target, Replace replace, const std::string& last,
                       const std::function<void(const Path& staging)>& fill);
// Creates a file in a staging directory, fills it, and makes it durable.
void write_file(Storage& storage, const Path& file, const std::function<void(FileWriter&)>& fill);

}  // namespace tessera
