// The hash by which the hub names a content.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/git_hash.h"
#include "base/hash.h"
#include "hub/hub_client.h"

namespace lewis {

// SHA-256 of a large file, git's SHA-1 of a small one, or another that is not known. Bytes are
// added in the order of the file.
class ContentHash {
 public:
  explicit ContentHash(const RemoteFile& file) : name_(file.blob) {
    if (name_.size() == 64) sha256_.emplace();
    if (name_.size() == 40) git_.emplace(file.size);
  }
  void add(std::span<const std::byte> bytes) {
    if (sha256_) sha256_->add(bytes);
    if (git_) git_->add(bytes);
  }
  // The hash of what was added; the expected one where it cannot be computed.
  std::string result() { return sha256_ ? sha256_->hex() : git_ ? git_->hex() : name_; }
  std::string_view kind() const { return sha256_ ? "SHA-256" : "git hash"; }
  bool is_known() const { return sha256_ || git_; }

 private:
  std::string name_;
  std::optional<Sha256> sha256_;
  std::optional<GitBlobHash> git_;
};

}  // namespace lewis
