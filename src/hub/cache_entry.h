// One repository in the hub's cache, as huggingface_hub lays it out:
//
//   models--OWNER--NAME/blobs/HASH                   the contents
//   models--OWNER--NAME/snapshots/COMMIT/FILE        links to ../../blobs/HASH
//   models--OWNER--NAME/refs/REVISION                the commit of a branch or tag
//   models--OWNER--NAME/.no_exist/COMMIT/FILE        files that the commit is known not to have
//   .locks/models--OWNER--NAME/HASH.lock             held while HASH is downloaded
#pragma once

#include <filesystem>
#include <string>

#include "hub/hub_client.h"
#include "io/file.h"

namespace lewis {

class CacheEntry {
 public:
  CacheEntry(std::filesystem::path cache, const RepoId& id);

  const std::filesystem::path& folder() const { return folder_; }
  std::filesystem::path blob(const std::string& hash) const { return folder_ / "blobs" / hash; }
  std::filesystem::path snapshot(const std::string& commit) const {
    return folder_ / "snapshots" / commit;
  }
  // True when the commit's file is there with this size.
  bool has(const std::string& commit, const RemoteFile& file) const;
  // The commit that `revision` had when it was last asked for; "" if that is not known.
  std::string commit_of(const std::string& revision) const;

  // Makes the folders for a blob, and the tag by which backups leave the cache out.
  void prepare() const;
  // Takes the lock of a blob, as huggingface_hub does, and waits while another program has it.
  // Error(kInterrupted).
  File lock(const std::string& hash, const StopFn& stop) const;
  // Makes FILE of the commit a link to its blob; a copy where there can be no links.
  void link(const std::string& commit, const RemoteFile& file) const;
  void write_ref(const std::string& revision, const std::string& commit) const;
  void note_absent(const std::string& commit, const std::string& file) const;

 private:
  std::filesystem::path cache_, folder_, locks_;
};

}  // namespace lewis
