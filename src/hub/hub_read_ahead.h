// Fetches what the steps of a pass need before they need it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "hub/hub_file.h"
#include "hub/read_plan.h"
#include "io/file.h"
#include "io/range_source.h"

namespace lewis {

// Several connections bring the pieces of a plan (hub/read_plan.h) in its order. They stop when the
// room is full, and go on when steps are finished; a piece that a step waits for comes in any case.
// The bytes of a step in_parts go into a file without a name, those of one such step at a time.
// Every piece is added to its file's hash as soon as all before it have come.
class HubReadAhead final : public ReadAhead {
 public:
  explicit HubReadAhead(const HubClient& hub) : hub_(hub) {}
  ~HubReadAhead() override { stop(); }

  void begin(const std::vector<Step>& steps, const Room& room) override;
  void finish(size_t step) override;
  std::vector<std::string> end() override;
  void stop() noexcept override;
  bool is_cut() const override { return cut_; }
  void note_cut() { cut_ = true; }

  // Copies the front of `out` from the piece of the pass that has these bytes, and waits until it
  // has come. 0: the pass has them not, or no more. Throws what kept the piece from coming.
  size_t take(const HubFile& file, uint64_t offset, std::span<std::byte> out);

 private:
  using Bytes = std::shared_ptr<std::byte[]>;
  struct Piece {
    PlannedPiece planned;
    size_t readers = 0;  // steps that are not finished
    bool there = false, hashed = false, gone = false;
    Bytes bytes;                  // null: not there, or in the spool
    std::shared_ptr<File> spool;  // of a step in_parts
    uint64_t spool_at = 0;
  };
  struct PassFile {
    const HubFile* file = nullptr;
    bool is_hashed = false;
    std::multimap<uint64_t, size_t> pieces;   // by their begin; without those that are gone
    std::mutex mutex;                         // guards the hash and what follows
    std::multimap<uint64_t, size_t> waiting;  // pieces that have come before others before them
  };

  void work();
  std::optional<size_t> next_piece();
  bool may_start(const Piece& piece) const;
  void bring(size_t piece);
  void hash(size_t piece);
  void settle(Piece& piece);
  void into_spool(Piece& piece);
  std::optional<size_t> find_piece(PassFile& file, uint64_t offset) const;
  void fail(std::exception_ptr error);
  void join() noexcept;
  void check_stop() const;

  const HubClient& hub_;
  std::atomic<bool> cut_ = false;

  std::mutex mutex_;  // guards what follows; taken inside of PassFile::mutex, never around it
  std::condition_variable changed_;
  std::vector<std::unique_ptr<PassFile>> files_;
  std::map<const RangeSource*, PassFile*> file_of_;
  std::vector<Piece> pieces_;
  std::vector<std::vector<size_t>> pieces_of_step_;
  std::vector<std::thread> workers_;
  Room room_;
  size_t next_ = 0;       // into pieces_: the next to fetch
  size_t arrived_ = 0;    // pieces that are there and hashed
  uint64_t held_ = 0;     // bytes in memory, with those under way
  size_t wanted_ = 0;     // pieces up to this step are waited for
  uint64_t longest_ = 0;  // piece
  std::optional<size_t> spooled_step_;
  std::shared_ptr<File> spool_;
  uint64_t spool_end_ = 0;
  std::exception_ptr error_;
  bool ends_ = false;
};

}  // namespace lewis
