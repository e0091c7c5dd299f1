#include "hub/hub_read_ahead.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/start_thread.h"

namespace lewis {
namespace {

constexpr uint64_t kLongestPiece = 16 << 20, kShortestPiece = 256 << 10;

// A file that has no name and ends with its last user.
std::shared_ptr<File> make_spool(const std::filesystem::path& folder) {
  auto file = std::make_shared<File>(File::create_beside(folder / "lewis-fetched"));
  std::filesystem::remove(file->path());
  return file;
}

}  // namespace

void HubReadAhead::begin(const std::vector<Step>& steps, const Room& room) {
  stop();
  std::vector<PlannedFile> files;
  std::set<const RangeSource*> known;
  for (const Step& step : steps) {
    for (const FilePlace& p : step.places) {
      if (!known.insert(p.file).second) continue;
      const auto& file = static_cast<const HubFile&>(*p.file);
      files.push_back({&file, file.size(), file.head().size(), !file.is_verified()});
    }
  }
  const uint64_t longest = std::clamp(room.memory / 8, kShortestPiece, kLongestPiece);
  ReadPlan plan = plan_reads(steps, std::move(files), longest);
  cut_ = false;
  room_ = room;
  longest_ = longest;
  for (const PlannedFile& planned : plan.files) {
    auto file = std::make_unique<PassFile>();
    file->file = static_cast<const HubFile*>(planned.file);
    file->is_hashed = planned.is_hashed && !file->file->is_verified();
    if (file->is_hashed) file->file->begin_hash();
    file_of_[planned.file] = file.get();
    files_.push_back(std::move(file));
  }
  pieces_of_step_.resize(steps.size());
  for (PlannedPiece& planned : plan.pieces) {
    for (const size_t step : planned.steps) pieces_of_step_[step].push_back(pieces_.size());
    files_[planned.file]->pieces.emplace(planned.begin, pieces_.size());
    Piece piece;
    piece.readers = planned.steps.size();
    piece.planned = std::move(planned);
    pieces_.push_back(std::move(piece));
  }
  const size_t count = std::min(std::max<size_t>(1, hub_.options().connections), pieces_.size());
  const auto give_up = [this] {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    changed_.notify_all();
  };
  start_threads(
      workers_, 0, count, [this](size_t) { work(); }, give_up);
}

// ---- the threads that fetch ----

void HubReadAhead::work() {
  try {
    while (const auto piece = next_piece()) {
      bring(*piece);
      hash(*piece);
    }
  } catch (...) {
    fail(std::current_exception());
  }
}

// The first failure counts; it ends all requests.
void HubReadAhead::fail(std::exception_ptr error) {
  const std::lock_guard lock(mutex_);
  if (!error_ && !ends_) error_ = std::move(error);
  hub_.end_of_work() = true;
  changed_.notify_all();
}

bool HubReadAhead::may_start(const Piece& piece) const {
  const PlannedPiece& planned = piece.planned;
  if (planned.step <= wanted_) return true;
  if (planned.in_parts && spooled_step_ && *spooled_step_ != planned.step) return false;
  return held_ == 0 || held_ + planned.size <= room_.memory;
}

std::optional<size_t> HubReadAhead::next_piece() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] {
    return ends_ || error_ || next_ == pieces_.size() || may_start(pieces_[next_]);
  });
  if (ends_ || error_ || next_ == pieces_.size()) return std::nullopt;
  Piece& piece = pieces_[next_];
  held_ += piece.planned.size;
  if (piece.planned.in_parts) {
    spooled_step_ = piece.planned.step;
    if (!spool_) {
      spool_ = make_spool(room_.spool);
      spool_end_ = 0;
    }
    piece.spool = spool_;
    piece.spool_at = spool_end_;
    spool_end_ += piece.planned.size;
  }
  return next_++;
}

void HubReadAhead::bring(size_t number) {
  Piece& piece = pieces_[number];  // nobody else changes it before it is there
  const PlannedPiece& planned = piece.planned;
  Bytes bytes(new std::byte[planned.size]);
  const std::span<std::byte> all(bytes.get(), planned.size);
  files_[planned.file]->file->fetch(planned.begin, all);
  if (piece.spool) piece.spool->write_at(piece.spool_at, all);
  const std::lock_guard lock(mutex_);
  piece.bytes = std::move(bytes);
  piece.there = true;
  changed_.notify_all();
}

// Adds a piece that has come to the hash of its file, and those that waited for it.
void HubReadAhead::hash(size_t number) {
  PassFile& file = *files_[pieces_[number].planned.file];
  const std::lock_guard of_file(file.mutex);
  file.waiting.emplace(pieces_[number].planned.begin, number);
  while (!file.waiting.empty()) {
    const auto [begin, waiting] = *file.waiting.begin();
    if (file.is_hashed && begin > file.file->hashed()) break;
    Piece& piece = pieces_[waiting];
    if (file.is_hashed) {
      file.file->add_to_hash(begin,
                             std::span<const std::byte>(piece.bytes.get(), piece.planned.size));
    }
    file.waiting.erase(file.waiting.begin());
    const std::lock_guard lock(mutex_);
    piece.hashed = true;
    ++arrived_;
    settle(piece);
    changed_.notify_all();
  }
}

// Gives room back where the bytes are no longer needed in memory, or at all.
void HubReadAhead::settle(Piece& piece) {
  if (!piece.hashed) return;
  if (piece.bytes && (piece.readers == 0 || piece.spool)) {
    piece.bytes.reset();
    held_ -= piece.planned.size;
  }
  if (piece.readers > 0 || piece.gone) return;
  piece.gone = true;
  piece.spool.reset();
  auto& pieces = files_[piece.planned.file]->pieces;
  const size_t number = static_cast<size_t>(&piece - pieces_.data());
  const auto [begin, end] = pieces.equal_range(piece.planned.begin);
  for (auto it = begin; it != end; ++it) {
    if (it->second != number) continue;
    pieces.erase(it);
    break;
  }
}

// ---- the steps ----

void HubReadAhead::finish(size_t step) {
  const std::lock_guard lock(mutex_);
  if (step >= pieces_of_step_.size()) return;
  for (const size_t number : pieces_of_step_[step]) {
    --pieces_[number].readers;
    settle(pieces_[number]);
  }
  pieces_of_step_[step].clear();
  if (spooled_step_ == step) {
    spooled_step_.reset();
    spool_.reset();
  }
  changed_.notify_all();
}

// The piece with the byte that comes first, if the pass has one.
std::optional<size_t> HubReadAhead::find_piece(PassFile& file, uint64_t offset) const {
  std::optional<size_t> found;
  auto it = file.pieces.upper_bound(offset);
  while (it != file.pieces.begin()) {
    --it;
    if (it->first + longest_ <= offset) break;
    const PlannedPiece& piece = pieces_[it->second].planned;
    if (offset < piece.begin + piece.size && (!found || it->second < *found)) found = it->second;
  }
  return found;
}

void HubReadAhead::check_stop() const {
  const StopFn& stop = hub_.http().stop();
  if (stop && stop()) throw Error(ExitCode::kInterrupted, "interrupted");
}

size_t HubReadAhead::take(const HubFile& file, uint64_t offset, std::span<std::byte> out) {
  std::unique_lock lock(mutex_);
  const auto pass_file = file_of_.find(&file);
  if (pass_file == file_of_.end()) return 0;
  const auto number = find_piece(*pass_file->second, offset);
  if (!number) return 0;
  Piece& piece = pieces_[*number];
  while (!piece.there) {
    if (error_) std::rethrow_exception(error_);
    check_stop();
    if (piece.planned.step > wanted_) {
      wanted_ = piece.planned.step;
      changed_.notify_all();
    }
    changed_.wait_for(lock, std::chrono::milliseconds(100));
  }
  const uint64_t at = offset - piece.planned.begin;
  const size_t size = std::min<size_t>(out.size(), piece.planned.size - at);
  const Bytes bytes = piece.bytes;
  const std::shared_ptr<File> spool = piece.spool;
  const uint64_t spool_at = piece.spool_at;
  lock.unlock();
  if (bytes) {
    std::memcpy(out.data(), bytes.get() + at, size);
  } else {
    spool->read_at(spool_at + at, out.first(size));
  }
  return size;
}

std::vector<std::string> HubReadAhead::end() {
  {
    std::unique_lock lock(mutex_);
    while (arrived_ < pieces_.size()) {
      if (error_) std::rethrow_exception(error_);
      check_stop();
      wanted_ = pieces_of_step_.size();  // no step has to wait for room any more
      changed_.notify_all();
      changed_.wait_for(lock, std::chrono::milliseconds(100));
    }
    if (error_) std::rethrow_exception(error_);
  }
  std::vector<std::string> unverified;
  for (const auto& file : files_) {
    if (!file->file->is_verified()) unverified.push_back(file->file->label());
  }
  stop();
  if (unverified.empty()) return {};
  const std::string more =
      unverified.size() == 1 ? "" : fmt::format(" and {} more", unverified.size() - 1);
  return {fmt::format(
      "{}{}: not compared with the hash that the hub states, since not all bytes were read, or not "
      "in the order of the file; sizes and headers were proven",
      unverified.front(), more)};
}

void HubReadAhead::join() noexcept {
  for (std::thread& worker : workers_) worker.join();
  workers_.clear();
}

void HubReadAhead::stop() noexcept {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
    if (!workers_.empty()) hub_.end_of_work() = true;
    changed_.notify_all();
  }
  join();
  const std::lock_guard lock(mutex_);
  hub_.end_of_work() = false;
  files_.clear();
  file_of_.clear();
  pieces_.clear();
  pieces_of_step_.clear();
  room_ = {};
  next_ = arrived_ = wanted_ = 0;
  held_ = spool_end_ = 0;
  spooled_step_.reset();
  spool_.reset();
  error_ = nullptr;
  ends_ = false;
}

}  // namespace lewis
