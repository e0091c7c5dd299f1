// Downloads files of a repository into the hub's cache.
#pragma once

#include <string>
#include <vector>

#include "base/progress.h"
#include "hub/cache_entry.h"
#include "hub/hub_client.h"

namespace lewis {

// The files that the commit's snapshot lacks, with size and hash, largest first. Throws HubFailure.
std::vector<RemoteFile> missing_files(const HubClient& hub, const CacheEntry& entry,
                                      const RepoId& id, const std::string& commit,
                                      const std::vector<RemoteFile>& files);

struct Downloaded {
  uint64_t files = 0, bytes = 0;  // that came over the network
};

// Downloads what the commit's snapshot lacks of `files`, several at once, and links it. An
// interrupted download goes on where it ended. Every file has the size and the hash that the hub
// states before it gets its name. `progress` is called on this thread; what it throws ends the
// work. Throws HubFailure; Error(kInput): other bytes than the hub states; Error(kResource): the
// disk; Error(kInterrupted). What is complete stays in the cache.
Downloaded download(const HubClient& hub, const RepoId& id, const std::string& commit,
                    const std::vector<RemoteFile>& files, const ProgressFn& progress);

}  // namespace lewis
