// Uploads a folder's files as one commit of a repository.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/progress.h"
#include "hub/hub_client.h"

namespace lewis {

struct FileToPush {
  std::string name;  // in the repository
  std::filesystem::path path;
  uint64_t size = 0;
  std::string sha256;
};

struct Pushed {
  std::string commit, url;
  uint64_t files = 0, bytes = 0;  // bytes that went over the network; large files that the hub has
                                  // already are not sent again
};

struct PushOptions {
  bool is_private = false;  // of a repository that does not exist yet
  std::string message;      // of the commit
};

// Creates the repository and the branch where they are missing, uploads what the hub lacks (large
// files through LFS, in parts where the hub asks for it), then makes one commit of all files: until
// then nothing changes for readers. After an error or an interrupt the same call goes on, since
// large files that have arrived are not sent again. Throws HubFailure; Error(kUsage): no token;
// Error(kInterrupted).
Pushed push_files(const HubClient& hub, const RepoId& id, const std::vector<FileToPush>& files,
                  const PushOptions& options, const ProgressFn& progress);

}  // namespace lewis
