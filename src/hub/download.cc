#include "hub/download.h"

#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/human.h"
#include "base/start_thread.h"
#include "hub/content_hash.h"
#include "io/disk.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr size_t kPiece = 1 << 20;
// A try that brings so much, or a sixteenth of the file, was worth it: the next are not counted as
// if nothing had come.
constexpr uint64_t kProgress = 1 << 20;

// The first byte of a "bytes 100-199/200"; nothing when it is something else.
std::optional<uint64_t> range_begin(const std::string& content_range) {
  uint64_t begin = 0;
  if (sscanf(content_range.c_str(), "bytes %lu-", &begin) != 1) return std::nullopt;
  return begin;
}

// One file on its way into the cache.
class FileDownload {
 public:
  FileDownload(const HubClient& hub, const CacheEntry& entry, const RepoId& id,
               const std::string& commit, const RemoteFile& file, std::atomic<uint64_t>& done)
      : hub_(hub), entry_(entry), id_(id), commit_(commit), file_(file), done_(done) {}

  // True when bytes came over the network.
  bool run() {
    const File lock = entry_.lock(file_.blob, hub_.http().stop());
    const fs::path blob = entry_.blob(file_.blob);
    std::error_code error;
    const uint64_t there = fs::file_size(blob, error);
    const bool fetched = error || there != file_.size;
    if (fetched) {
      fetch(blob.string() + ".incomplete");
      fs::rename(blob.string() + ".incomplete", blob);
      sync_folder(blob.parent_path());
    } else {
      count(file_.size);
    }
    entry_.link(commit_, file_);
    return fetched;
  }

 private:
  void fetch(const fs::path& incomplete) {
    for (const bool again : {false, true}) {
      counted_ = 0;
      const File out = open_incomplete(incomplete);
      const bool resumed = at_ > 0;
      while (at_ < file_.size || tries_ == 0) receive_some(out);
      out.sync();
      const std::string found = hash_->result();
      if (found == file_.blob) return;
      done_ -= counted_;
      fs::remove(incomplete);
      // What an earlier run left may have been the fault; a stable fault is the hub's.
      if (!resumed && again) {
        throw input_error("{}: {}: the bytes that came have the {} {}, the hub states {}",
                          id_.label(), file_.name, hash_->kind(), found, file_.blob);
      }
      tries_ = 0;
    }
    throw input_error("{}: {}: other bytes came than the hub states ({} {}), twice", id_.label(),
                      file_.name, hash_->kind(), file_.blob);
  }

  // Hashes what an earlier run has left, and goes on behind it.
  File open_incomplete(const fs::path& path) {
    File out = File::open_append(path);
    hash_.emplace(file_);
    at_ = 0;
    const uint64_t there = out.size();
    if (there > file_.size) fs::resize_file(path, 0);
    std::vector<std::byte> piece(kPiece);
    while (there <= file_.size && at_ < there) {
      const auto bytes = std::span(piece).first(std::min<uint64_t>(kPiece, there - at_));
      out.read_at(at_, bytes);
      hash_->add(bytes);
      at_ += bytes.size();
      count(bytes.size());
      check_stop();
    }
    return out;
  }

  void restart(const File& out) {
    fs::resize_file(out.path(), 0);
    hash_.emplace(file_);
    done_ -= counted_;
    counted_ = at_ = 0;
  }

  // One request, which brings the rest or some of it.
  void receive_some(const File& out) {
    ++tries_;
    std::optional<HttpResponse> response;
    try {
      HttpRequest ask{.url = hub_.file_url(id_, commit_, file_.name)};
      if (at_ > 0) ask.headers.emplace_back("Range", fmt::format("bytes={}-", at_));
      HttpResponse head;
      response = hub_.follow(ask, &head);
      check_same_file(head.status() ? head : *response);
    } catch (const HubFailure&) {
      throw;
    } catch (const Error& e) {
      if (e.code() != ExitCode::kResource) throw;
      return retry_later(nullptr, e.what());
    }
    const unsigned status = response->status();
    if (HubClient::is_temporary(status)) {
      if (tries_ >= HubClient::kTries) throw hub_.failure(*response, id_, file_.name);
      return retry_later(&*response, "");
    }
    if (status == 416 && at_ > 0) return restart(out);
    if (status != 200 && status != 206) throw hub_.failure(*response, id_, file_.name);
    if (at_ > 0 && (status == 200 || range_begin(response->header("content-range")) != at_))
      restart(out);
    if (status == 206 && range_begin(response->header("content-range")) != at_)
      return retry_later(nullptr, "the hub sends another range than was asked for");
    const uint64_t before = at_;
    const std::string why = copy_body(*response, out);
    if (at_ - before >= std::min(kProgress, file_.size / 16 + 1)) tries_ = 1;  // it goes on
    if (at_ < file_.size) retry_later(nullptr, why);
  }

  // Content that is not the one that was listed must not be mixed with it.
  void check_same_file(const HttpResponse& answer) const {
    const std::string& linked = answer.header("x-linked-size");
    if (answer.status() < 400 && !linked.empty() && linked != std::to_string(file_.size)) {
      throw HubFailure(ExitCode::kInput,
                       fmt::format("{}: {}: the hub states {} bytes now, {} before", id_.label(),
                                   file_.name, linked, file_.size),
                       true);
    }
  }

  // Returns why it ended before the file did; "" when it did not.
  std::string copy_body(HttpResponse& response, const File& out) {
    std::vector<std::byte> room(kPiece);
    try {
      while (true) {
        size_t filled = 0, size = 1;
        std::string broken;
        while (filled < kPiece && size > 0 && broken.empty()) {
          try {
            size = response.read(std::span(room).subspan(filled));
          } catch (const Error& e) {
            if (e.code() != ExitCode::kResource) throw;
            broken = e.what();
            size = 0;
          }
          filled += size;
        }
        if (at_ + filled > file_.size) {
          throw input_error("{}: {}: more bytes came than the {} that the hub states", id_.label(),
                            file_.name, file_.size);
        }
        const auto bytes = std::span(room).first(filled);
        out.append({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
        hash_->add(bytes);
        at_ += filled;
        count(filled);
        if (size == 0) return at_ < file_.size && broken.empty() ? "the body ended early" : broken;
      }
    } catch (const Error& e) {
      if (e.code() == ExitCode::kInput) fs::remove(out.path());
      throw;
    }
  }

  void retry_later(const HttpResponse* response, const std::string& why) {
    if (tries_ >= HubClient::kTries) {
      throw HubFailure(ExitCode::kResource,
                       fmt::format("{}: {}: {} of {} bytes came: {}; run it again to go on from "
                                   "there",
                                   id_.label(), file_.name, at_, file_.size, why),
                       false);
    }
    hub_.wait_to_retry(tries_, response, id_);
  }

  void count(uint64_t bytes) {
    counted_ += bytes;
    done_ += bytes;
  }
  void check_stop() const {
    const StopFn& stop = hub_.http().stop();
    if (stop && stop()) throw Error(ExitCode::kInterrupted, "interrupted");
  }

  const HubClient& hub_;
  const CacheEntry& entry_;
  const RepoId& id_;
  const std::string& commit_;
  const RemoteFile& file_;
  std::atomic<uint64_t>& done_;
  std::optional<ContentHash> hash_;
  uint64_t at_ = 0, counted_ = 0;
  int tries_ = 0;
};

void check_disk(const CacheEntry& entry, const RepoId& id, const std::vector<RemoteFile>& files) {
  uint64_t needed = 0;
  std::error_code error;
  for (const RemoteFile& file : files) {
    const uint64_t there = fs::file_size(entry.blob(file.blob), error);
    if (!error && there == file.size) continue;
    const uint64_t begun = fs::file_size(entry.blob(file.blob + ".incomplete"), error);
    needed += file.size - (error ? 0 : std::min(begun, file.size));
  }
  const uint64_t free = fs::space(existing_folder(entry.folder() / "blobs")).available;
  if (needed <= free) return;
  throw resource_error(
      "{}: {} are to be downloaded, {} has {} free; HF_HUB_CACHE=FOLDER chooses "
      "another place",
      id.label(), human_bytes(needed), entry.folder().parent_path().string(), human_bytes(free));
}

// Runs pieces of work on threads while this one tells how far they are.
class Crew {
 public:
  // `stop` is set when the work ends early; requests ask it.
  Crew(size_t pieces, std::atomic<bool>& stop) : pieces_(pieces), stop_(stop) { stop_ = false; }
  ~Crew() { stop_ = false; }

  void run(size_t threads, const std::function<void(size_t)>& work,
           const std::function<void()>& tell) {
    std::vector<std::thread> crew;
    const size_t count = std::min(threads, pieces_);
    running_ = count;
    start_threads(
        crew, 0, count, [&](size_t) { take_pieces(work); }, [this] { stop_ = true; });
    try {
      std::unique_lock lock(mutex_);
      while (running_ > 0) {
        changed_.wait_for(lock, std::chrono::milliseconds(100));
        lock.unlock();
        tell();
        lock.lock();
      }
    } catch (...) {
      stop_ = true;
      for (std::thread& thread : crew) thread.join();
      throw;
    }
    for (std::thread& thread : crew) thread.join();
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void take_pieces(const std::function<void(size_t)>& work) {
    try {
      for (size_t i = next_++; i < pieces_ && !stop_; i = next_++) work(i);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
      stop_ = true;
    }
    const std::lock_guard lock(mutex_);
    --running_;
    changed_.notify_all();
  }

  size_t pieces_;
  std::atomic<size_t> next_ = 0;
  std::atomic<bool>& stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t running_ = 0;
  std::exception_ptr error_;
};

}  // namespace

std::vector<RemoteFile> missing_files(const HubClient& hub, const CacheEntry& entry,
                                      const RepoId& id, const std::string& commit,
                                      const std::vector<RemoteFile>& files) {
  std::vector<RemoteFile> missing;
  for (const RemoteFile& file : files) {
    const RemoteFile known = file.blob.empty() ? hub.described(id, commit, file.name) : file;
    if (!entry.has(commit, known)) missing.push_back(known);
  }
  std::ranges::stable_sort(missing, std::greater(), &RemoteFile::size);
  return missing;
}

Downloaded download(const HubClient& hub, const RepoId& id, const std::string& commit,
                    const std::vector<RemoteFile>& files, const ProgressFn& progress) {
  const CacheEntry entry(hub.options().cache, id);
  const auto missing = missing_files(hub, entry, id, commit, files);
  if (missing.empty()) return {};
  check_disk(entry, id, missing);
  entry.prepare();
  Progress told{"download " + id.label(), "bytes", 0, 0};
  for (const RemoteFile& file : missing) told.total += file.size;
  std::atomic<uint64_t> done = 0, fetched = 0, bytes = 0;
  // Two files may have one content: the second thread then waits for the lock and links.
  Crew crew(missing.size(), hub.end_of_work());
  const auto work = [&](size_t i) {
    if (!FileDownload(hub, entry, id, commit, missing[i], done).run()) return;
    ++fetched;
    bytes += missing[i].size;
  };
  const auto tell = [&] {
    told.done = std::min<uint64_t>(done, told.total);
    if (progress && told.done < told.total) progress(told);
  };
  crew.run(hub.options().connections, work, tell);
  told.done = told.total;
  if (progress) progress(told);
  return {fetched, bytes};
}

}  // namespace lewis
