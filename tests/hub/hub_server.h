// A hub on 127.0.0.1 for tests: the documented protocol, and every fault that a network has.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

namespace lewis {

struct ServedFile {
  std::string content;
  bool large = false;  // kept outside of git: named by SHA-256, and its bytes lie at another host
};

// A repository at its commit, and at others.
struct ServedRepo {
  std::string commit = std::string(40, 'a');
  std::map<std::string, ServedFile> files;
  std::map<std::string, std::string> refs = {{"main", std::string(40, 'a')}};  // branch -> commit
  std::string token;       // who has another one gets 401; "": everybody reads
  bool gated = false;      // 403 for everybody
  bool says_sizes = true;  // the list of files has sizes and hashes
  std::map<std::string, std::map<std::string, ServedFile>> others{};  // commit -> its files
};

struct ServedRequest {
  std::string method, path, body;
  std::map<std::string, std::string> headers;  // names in small letters
  size_t number = 0;                           // of this path, from 0
  bool at_storage = false;                     // came to the other host
};

// What is to go wrong with an answer.
struct Fault {
  unsigned status = 0;  // answers with it instead
  std::map<std::string, std::string> headers{};
  std::optional<size_t> cut_after{};  // closes the connection behind so many bytes of the body
  bool close = false;                 // without any answer
  bool flip_byte = false;             // of the body
  std::optional<std::string> body{};  // another body
  std::optional<uint64_t> linked_size{};
  bool no_range = false;     // 200 where 206 was asked for
  bool other_range = false;  // a range that begins elsewhere
  double silence = 0;        // seconds before the answer
  double stall = 0;          // seconds in the middle of the body
  std::string location{};    // of the redirect to the bytes
};

class HubServer {
 public:
  HubServer();
  ~HubServer();
  HubServer(const HubServer&) = delete;
  HubServer& operator=(const HubServer&) = delete;

  std::string address() const { return "http://127.0.0.1:" + std::to_string(port_); }
  // Where the bytes of large files lie: another host, as far as tokens are concerned.
  std::string storage_address() const {
    return "http://127.0.0.1:" + std::to_string(storage_port_);
  }

  std::map<std::string, ServedRepo> models;  // by id; not to be changed while requests run
  std::map<std::string, ServedRepo> datasets;
  std::function<Fault(const ServedRequest&)> fault;  // asked for every request; may be empty
  std::string write_token = "writer";                // who creates and commits must send it
  size_t part_bytes = 0;                             // of uploads in parts; 0: they come whole
  std::map<std::string, std::string> stored;         // contents that were uploaded, by SHA-256
  std::atomic<size_t> connections = 0;               // that were made to either address
  std::atomic<double> bytes_per_second = 0;          // of all bodies together; 0: no limit

  std::vector<ServedRequest> requests() const;
  void forget_requests();
  uint64_t storage_bytes() const { return storage_bytes_; }  // of bodies that were sent there

 private:
  struct Answer;
  void serve(int listener, bool storage);
  void talk(int socket, bool storage);
  bool answer(int socket, ServedRequest& request);
  bool send_answer(int socket, const ServedRequest& request, Answer& answer, const Fault& fault);
  bool send_body(int socket, const ServedRequest& request, const std::string& body,
                 const Fault& fault);
  Answer routed(const ServedRequest& request, const Fault& fault);
  Answer written(const ServedRequest& request);
  Answer stored_part(const ServedRequest& request);
  Answer uploads(const ServedRequest& request);
  Answer committed(const ServedRequest& request, const std::string& id);
  Answer listing(const ServedRepo& repo, const std::string& id, const std::string& rest);
  Answer resolved(const ServedRequest& request, const ServedRepo& repo, const std::string& rest,
                  const Fault& fault);
  Answer bytes_of(const ServedRequest& request, const std::string& content, const Fault& fault);

  int port_ = 0, storage_port_ = 0;  // before the listeners, which write them
  int listener_, storage_listener_;
  std::atomic<bool> ends_ = false;
  std::atomic<uint64_t> storage_bytes_ = 0;
  mutable std::mutex mutex_;
  std::vector<ServedRequest> requests_;
  std::map<std::string, size_t> times_;  // by method and path
  std::vector<std::thread> threads_;
  std::mutex rate_mutex_;
  std::map<std::string, std::map<size_t, std::string>> parts_;  // by SHA-256 and number
  double paid_until_ = 0;                                       // seconds of the steady clock
};

// The names of contents: SHA-256, and git's SHA-1.
std::string large_name(const std::string& content);
std::string small_name(const std::string& content);

}  // namespace lewis
