// Requests to the hub: addresses, the token, redirects, retries, and errors that say what to do.
#pragma once

#include <lewis/error.h>
#include <lewis/hub.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hub/http.h"

namespace lewis {

// A repository of the hub at a revision: a branch, a tag, a commit or "refs/pr/7".
struct RepoId {
  enum class Kind { kModel, kDataset };
  Kind kind = Kind::kModel;
  std::string name;  // "owner/name", or "name" alone
  std::string revision = "main";

  // As messages name it: "owner/name", with "@revision" unless it is main.
  std::string label() const;
  // "models--owner--name", its folder in the cache.
  std::string folder() const;
  bool is_commit() const;  // the revision is 40 hexadecimal digits
};
// From "owner/name[@revision]"; nothing when it can be no id.
std::optional<RepoId> parse_repo_id(std::string_view id, RepoId::Kind kind = RepoId::Kind::kModel);

struct RemoteFile {
  std::string name;   // with '/'; stays in the folder (is_inner_name)
  uint64_t size = 0;  // in bytes
  // The name of its content in the cache: the SHA-256 of a large file, git's SHA-1 of a small one.
  std::string blob;
};

// An ETag without its quotes and its mark of weakness.
std::string bare_etag(std::string etag);

struct RemoteRepo {
  RepoId id;
  std::string commit;
  std::vector<RemoteFile> files;  // sorted by name
};

// The network, or the hub, does not answer as it should: what is in the cache may serve instead.
class HubFailure : public Error {
 public:
  HubFailure(ExitCode code, const std::string& message, bool is_final)
      : Error(code, message), final_(is_final) {}
  bool is_final() const { return final_; }  // the hub has answered: asking again gives the same

 private:
  bool final_;
};

class HubClient {
 public:
  // `stop` as in HttpClient; `note` gets lines for people, from any thread, one at a time.
  HubClient(HubOptions options, StopFn stop, std::function<void(const std::string&)> note);
  HubClient(const HubClient&) = delete;
  HubClient& operator=(const HubClient&) = delete;

  const HubOptions& options() const { return options_; }
  const HttpClient& http() const { return http_; }
  void note(const std::string& line) const {
    const std::lock_guard lock(note_mutex_);
    note_(line);
  }
  // While it is set, every request ends with Error(kInterrupted).
  std::atomic<bool>& end_of_work() const { return end_of_work_; }

  // "https://huggingface.co/api/models/owner/name/revision/main", ".../resolve/COMMIT/FILE".
  std::string api_url(const RepoId& id, std::string_view rest) const;
  std::string file_url(const RepoId& id, const std::string& commit, const std::string& file) const;

  // One try: sends it with the token, which only the endpoint itself gets, and follows redirects.
  // `head` gets the answer of the first address on the endpoint that is no mere renaming: its
  // headers describe the file. Error as HttpClient::send.
  HttpResponse follow(HttpRequest request, HttpResponse* head = nullptr) const;

  // Tries at most `tries` times (twice, as long as the hub has never answered) until the status is
  // none of 408, 429, 5xx; waits as the hub says, else longer each time. Throws HubFailure for what
  // is no success, after the last try.
  HttpResponse request(const HttpRequest& request, const RepoId& id, int tries = kTries) const;
  static constexpr int kTries = 6;

  // The answer's status as a HubFailure that says what to do; `file` may be empty.
  HubFailure failure(HttpResponse& response, const RepoId& id, const std::string& file = {}) const;
  static bool is_temporary(unsigned status);
  // Waits before try `number` (1: the first repetition), as Retry-After says or longer each time.
  // Throws HubFailure when the hub asks for more than five minutes; Error(kInterrupted).
  void wait_to_retry(int number, const HttpResponse* response, const RepoId& id) const;

  // The files of a repository; one request. Those about which the hub does not say size and hash
  // have an empty `blob`. Throws HubFailure.
  RemoteRepo list(const RepoId& id, int tries = kTries) const;
  // Size and hash of one file, where the list does not say them; one request. Throws HubFailure.
  RemoteFile described(const RepoId& id, const std::string& commit, const std::string& file) const;

 private:
  std::string token_words() const;

  HubOptions options_;
  mutable std::mutex note_mutex_;
  std::function<void(const std::string&)> note_;  // guarded by it
  mutable std::atomic<bool> end_of_work_ = false, reached_ = false;
  HttpClient http_;
};

}  // namespace lewis
