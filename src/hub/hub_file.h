// One file of a repository at the hub, of which parts are read by requests for a range.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "hub/content_hash.h"
#include "hub/hub_client.h"
#include "io/range_source.h"

namespace lewis {

class HubReadAhead;

// Its size and hash are those of the repository's list. Every answer must be of the same content:
// the same size, the same ETag. From any thread.
class HubFile final : public RangeSource {
 public:
  HubFile(const HubClient& hub, HubReadAhead& ahead, RepoId id, std::string commit,
          RemoteFile file);
  ~HubFile() override;

  uint64_t size() const override { return file_.size; }
  // From what is there (the header, a pass that fetches ahead), else over the network. Reads that
  // follow each other in the file come in larger and larger pieces.
  void read_at(uint64_t offset, std::span<std::byte> out) const override;
  // The commit and the hash that the hub states.
  std::string identity() const override;
  ReadAhead& read_ahead() const override;

  // "owner/name: FILE"
  std::string label() const { return id_.label() + ": " + file_.name; }
  // Reads exactly these bytes over the network, in as many requests as it takes. Throws HubFailure:
  // kResource after the last try without progress, kInput when the file is not what it was.
  void fetch(uint64_t offset, std::span<std::byte> out) const;

  // The safetensors header and what came with it; it stays in memory. Fetched at its first use.
  std::span<const std::byte> head() const;

  // The running hash of a pass. `begin_hash`: from the front on; the head is added. `add_to_hash`:
  // adds what follows the bytes that were added before; a part of `bytes` may be old.
  // `hash_is_right`: throws Error(kInput) when all bytes have been added and the hash is another
  // than the hub states. Not from several threads at once.
  void begin_hash() const;
  void add_to_hash(uint64_t offset, std::span<const std::byte> bytes) const;
  uint64_t hashed() const { return hashed_; }
  bool is_verified() const { return verified_; }

 private:
  struct Window {
    uint64_t begin = 0;
    std::shared_ptr<const std::vector<std::byte>> bytes;
    uint64_t end() const { return begin + bytes->size(); }
  };

  void load_head() const;
  void read_directly(uint64_t offset, std::span<std::byte> out) const;
  size_t copy_from_window(uint64_t offset, std::span<std::byte> out, uint64_t& wanted) const;
  void fetch_in_parallel(uint64_t offset, std::span<std::byte> out) const;
  void fetch_patiently(uint64_t offset, std::span<std::byte> out) const;
  HttpResponse ask(uint64_t offset, uint64_t size, bool& old_address) const;
  void check_same_file(const HttpResponse& head, const HttpResponse& answer) const;
  std::string why_not(const HttpResponse& answer, uint64_t offset) const;
  HubFailure changed(const std::string& what) const;

  const HubClient& hub_;
  HubReadAhead& ahead_;
  RepoId id_;
  std::string commit_;
  RemoteFile file_;

  mutable std::once_flag head_once_;
  mutable std::vector<std::byte> head_;
  mutable std::mutex mutex_;            // guards what follows, up to the hash
  mutable std::string address_;         // where the last answer came from; "": ask the hub
  mutable std::string etag_;            // of the first answer
  mutable std::deque<Window> windows_;  // bytes behind what was read lately

  mutable std::optional<ContentHash> hash_;
  mutable std::atomic<uint64_t> hashed_ = 0;
  mutable std::atomic<bool> verified_ = false;
};

}  // namespace lewis
