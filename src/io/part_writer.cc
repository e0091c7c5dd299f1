#include "io/part_writer.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <numeric>
#include <queue>
#include <thread>

#include "base/current_error.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/human.h"
#include "base/json.h"
#include "io/file.h"
#include "io/model_folder.h"
#include "io/out_folder.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr size_t kNamesShown = 4;      // names in a message
const std::string kFinish = "finish";  // the claim of whoever puts the shares together

// A finisher that replaces an OUT gives OUT.partial this name first, which only one can.
constexpr std::string_view kReady = ".ready-";

std::string task_of(const std::optional<MergePart>& part) {
  return part ? fmt::format("part {}/{}", part->index, part->count) : "--finish";
}

// What is wrong with a shard, or "". `expected` is the shard as it was planned.
std::string defect_of(const fs::path& path, const std::optional<ShardRecord>& record,
                      const ShardFile& expected) {
  if (!record) return "its record cannot be read";
  const bool same_names = std::ranges::equal(
      expected.entries(), record->tensors,
      [&](const auto& entry, const auto&) { return record->tensors.contains(entry.info.name); });
  if (!same_names || record->bytes != expected.file_bytes())
    return "its record is that of another shard";
  std::error_code error;
  const uint64_t bytes = fs::file_size(path, error);
  if (error) return "is missing";
  if (bytes != record->bytes)
    return fmt::format("has {} bytes, {} were written", bytes, record->bytes);
  if (shard_matches(path.parent_path(), *record)) return "";
  return fmt::format("{} is not what was written (SHA-256 differs)", changed_part(path, *record));
}

}  // namespace

std::vector<uint64_t> parts_of(const std::vector<uint64_t>& costs, uint64_t count) {
  std::vector<size_t> order(costs.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](size_t a, size_t b) { return costs[a] > costs[b]; });
  using Load = std::pair<uint64_t, uint64_t>;  // cost, part
  std::priority_queue<Load, std::vector<Load>, std::greater<>> loads;
  for (uint64_t part = 0; part < std::min<uint64_t>(count, costs.size()); ++part)
    loads.emplace(0, part);
  std::vector<uint64_t> parts(costs.size());
  for (const size_t piece : order) {
    const auto [cost, part] = loads.top();
    loads.pop();
    parts[piece] = part;
    loads.emplace(cost + costs[piece], part);
  }
  return parts;
}

PartWriter::PartWriter(const fs::path& out, std::vector<TensorInfo> tensors, PartOptions options,
                       Threads& threads)
    : out_(resolved_out(out)),
      partial_(out_.string() + ".partial"),
      options_(std::move(options)),
      threads_(threads),
      parts_(partial_, options_.plan),
      model_(sharded(std::move(tensors), options_.shard_bytes)) {
  if (is_complete()) {
    complete_ = true;
    return;
  }
  refuse_existing_out(out_, options_.force);
  rescue_renamed();
  unless_complete([&] {
    begin();
    choose_share();
  });
}

// ---- several workers ----

bool PartWriter::is_complete() const {
  try {
    return read_manifest(out_ / kManifestName).plan == options_.plan;
  } catch (const std::exception&) {
    return false;
  }
}

// Waits a moment where another worker is about to give OUT its name: then the manifest is there, or
// the folder is gone.
bool PartWriter::becomes_complete() const {
  constexpr int kTries = 10;
  for (int i = 0; i < kTries; ++i) {
    if (is_complete()) return true;
    if (fs::exists(parts_.path()) && !fs::exists(partial_ / kManifestName)) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return false;
}

// Does the work. An error that comes since another worker has put everything together, so that
// OUT.partial is gone, is none.
template <typename F>
void PartWriter::unless_complete(const F& work) {
  if (complete_) return;
  try {
    work();
  } catch (const Error& e) {
    if (e.code() == ExitCode::kInterrupted) throw;
    if (e.code() == ExitCode::kUsage ? !is_complete() : !becomes_complete()) throw;
    complete_ = true;
  } catch (const std::exception&) {
    if (!becomes_complete()) throw;
    complete_ = true;
  }
}

void PartWriter::tick() const {
  if (options_.progress) options_.progress({"waiting for other workers", "shards", 0, 1});
}

std::string PartWriter::name_of_part() const { return task_of(options_.part); }

// ---- the beginning ----

// Takes back what a worker had renamed that was killed before it replaced OUT.
void PartWriter::rescue_renamed() const {
  if (fs::exists(fs::symlink_status(partial_))) return;
  std::error_code error;
  const std::string begin = partial_.filename().string() + std::string(kReady);
  std::vector<fs::path> found;
  for (fs::directory_iterator it(partial_.parent_path(), error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().filename().string().starts_with(begin)) found.push_back(it->path());
  }
  for (const fs::path& path : found) {
    try {
      if (read_manifest(path / kManifestName).plan != options_.plan) continue;
      fs::rename(path, partial_);
      return;
    } catch (const std::exception&) {  // of something else, or another worker was quicker
    }
  }
}

// One process that writes a whole model has the marker locked; workers share the lock. Where the
// file system has no locks nobody is kept out.
void PartWriter::lock_marker() {
  const fs::path file = partial_ / kPartialMarker;
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) throw file_error(file, "cannot be created");
  marker_.emplace(FileHandle(fd));
  if (::flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    throw usage_error("{}: another lewis is writing there, without --part", partial_.string());
}

void PartWriter::begin() {
  if (fs::exists(fs::symlink_status(partial_))) {
    refuse_partial_of_others(partial_);
  } else if (!options_.part) {
    throw usage_error("{}: there is nothing to put together; begin with --part 0/N",
                      partial_.string());
  }
  try {
    fs::create_directories(partial_);
    lock_marker();
    fs::create_directory(parts_.path());
  } catch (const fs::filesystem_error& e) {
    throw file_error(partial_, "cannot be made", e.code());
  }
  if (is_complete()) {  // since the look before: then the folders are new, and empty
    std::error_code ignored;
    if (fs::remove(parts_.path(), ignored) && fs::remove(partial_ / kPartialMarker, ignored))
      fs::remove(partial_, ignored);
    complete_ = true;
    return;
  }
  const bool planned = parts_.is_unused() ? false : parts_.check_plan();
  worker_.emplace(parts_.path(), name_of_part(), options_.pace);
  try {
    parts_.adopt(*worker_);
  } catch (const Error& e) {
    if (e.code() != ExitCode::kUsage) throw;
    throw usage_error("{}; or remove the folder", e.what());
  }
  if (!planned) parts_.write_plan(*worker_, model_);
}

// The shards of this worker's part.
std::vector<size_t> PartWriter::planned_share() const {
  std::vector<size_t> share;
  if (!options_.part) return share;
  std::vector<uint64_t> costs;
  for (const auto& shard : model_.shards) {
    uint64_t cost = shard->file_bytes();
    for (const auto& entry : shard->entries()) {
      const auto read = options_.read_bytes.find(entry.info.name);
      cost += read == options_.read_bytes.end() ? 0 : read->second;
    }
    costs.push_back(cost);
  }
  const std::vector<uint64_t> parts = parts_of(costs, options_.part->count);
  for (size_t s = 0; s < parts.size(); ++s) {
    if (parts[s] == options_.part->index) share.push_back(s);
  }
  return share;
}

// True for a shard that is recorded and has the bytes of its record by number; what is in them is
// checked in the end.
bool PartWriter::take_over(ShardFile& shard) const {
  auto record = parts_.read(shard.name());
  if (!record) return false;
  std::error_code error;
  if (fs::file_size(partial_ / shard.name(), error) != record->bytes || error) return false;
  shard.take_over(std::move(*record));
  return true;
}

// Claims shards that nobody has finished and no living worker has claimed.
void PartWriter::claim(const std::vector<size_t>& wanted) {
  std::set<std::string> owners;
  for (const size_t s : wanted) {
    if (const auto owner = worker_->owner(model_.shards[s]->name())) owners.insert(*owner);
  }
  const std::set<std::string> alive = worker_->living(owners, [this] { tick(); });
  for (const std::string& token : alive) owners.erase(token);
  std::map<std::string, std::vector<std::string>> left;  // by worker
  for (const size_t s : wanted) {
    ShardFile& shard = *model_.shards[s];
    const bool mine = worker_->claim(shard.name(), owners);
    if (take_over(shard)) {  // finished since the look before
      if (mine) worker_->release(shard.name());
    } else if (!mine) {
      left[worker_->owner(shard.name()).value_or("another worker")].push_back(shard.name());
      continue;
    }
    share_.push_back(s);
  }
  for (const auto& [token, names] : left) {
    notes_.push_back(
        fmt::format("{} is at work on {} of the shards of {}, which are left to it: {}",
                    describe_worker(parts_.path(), token), names.size(), name_of_part(),
                    some_of(names, kNamesShown)));
  }
}

void PartWriter::choose_share() {
  if (complete_) return;
  std::vector<size_t> wanted;
  for (const size_t s : planned_share())
    take_over(*model_.shards[s]) ? share_.push_back(s) : wanted.push_back(s);
  if (options_.part && share_.empty() && wanted.empty()) {
    notes_.push_back(
        fmt::format("{} has no shard: the merge has {}; a smaller --out-shard-size "
                    "makes more",
                    name_of_part(), model_.shards.size()));
  }
  claim(wanted);
  std::ranges::sort(share_);
  uint64_t needed = 0;
  for (const size_t s : share_)
    needed += model_.shards[s]->is_done() ? 0 : model_.shards[s]->file_bytes();
  check_disk_space(partial_, out_, needed);
  add_tensors();
}

void PartWriter::add_tensors() {
  for (size_t t = 0; t < model_.tensors.size(); ++t) {
    if (!std::ranges::binary_search(share_, model_.places[t].shard)) continue;
    tensors_.push_back(model_.tensors[t]);
    places_.push_back(model_.places[t]);
  }
  for (const size_t s : share_) {  // shards without a byte
    ShardFile& shard = *model_.shards[s];
    if (shard.is_done() || shard.missing() > 0) continue;
    shard.open(worker_->temporary());
    finish(shard);
  }
}

// ---- the work ----

uint64_t PartWriter::tensor_bytes() const {
  uint64_t bytes = 0;
  for (const TensorInfo& t : tensors_) bytes += byte_size(t);
  return bytes;
}

bool PartWriter::is_done(size_t tensor) const {
  return model_.shards[places_.at(tensor).shard]->is_done();
}

size_t PartWriter::lead(size_t tensor, uint64_t offset) const {
  const ShardedTensors::Place& place = places_.at(tensor);
  return (model_.shards[place.shard]->entries()[place.entry].begin + offset) %
         File::kDirectAlignment;
}

void PartWriter::write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  unless_complete([&] {
    const ShardedTensors::Place& place = places_.at(tensor);
    ShardFile& shard = *model_.shards[place.shard];
    {
      // A shard takes its space when it is begun, so that little lies around after a crash.
      std::lock_guard lock(mutex_);
      if (!shard.is_open()) shard.open(worker_->temporary());
    }
    worker_->add_bytes(bytes.size());
    if (shard.write(place.entry, offset, bytes)) finish(shard);
  });
}

// True when another worker, which took this one for dead, has the shard now.
bool PartWriter::is_lost(const ShardFile& shard) const {
  return parts_.recorded().contains(shard.name()) ||
         worker_->owner(shard.name()) != worker_->token();
}

void PartWriter::finish(ShardFile& shard) {
  const fs::path temporary = shard.path();
  shard.close();
  if (options_.check_inputs) options_.check_inputs();
  parts_.check_plan();
  std::error_code error;
  fs::rename(temporary, partial_ / shard.name(), error);
  if (error && fs::exists(parts_.path()) && is_lost(shard)) {
    std::lock_guard lock(mutex_);
    notes_.push_back(
        fmt::format("{}: another worker took this one for dead and has written it", shard.name()));
    return;
  }
  if (error) throw file_error(partial_ / shard.name(), "cannot be written", error);
  sync_folder(partial_);
  parts_.record(*worker_, shard.record(), worker_->lap());
  worker_->release(shard.name());
}

// ---- putting together ----

bool PartWriter::completes() {
  if (complete_) return false;
  for (const size_t s : share_) {
    if (const uint64_t missing = model_.shards[s]->missing()) {
      throw failed_error("{}: {} bytes of shard {} were never written", out_.string(), missing,
                         model_.shards[s]->name());
    }
  }
  unless_complete([&] { finishing_ = begin_finish(); });
  return finishing_ && !complete_;
}

bool PartWriter::begin_finish() {
  const std::set<std::string> recorded = parts_.recorded();
  std::vector<std::string> missing;
  for (const auto& shard : model_.shards) {
    if (!recorded.contains(shard->name())) missing.push_back(shard->name());
  }
  missing_ = missing.size();
  if (missing.empty()) {
    if (!claim_finish()) return false;
    check_shards();
    return true;
  }
  if (options_.part) return false;
  if (!fs::exists(parts_.path())) throw failed_error("{}: went away", parts_.path().string());
  throw usage_error(
      "{}: {} of {} shards are not there yet, run their parts first (the same --part again goes on "
      "with a part): {}",
      partial_.string(), missing.size(), model_.shards.size(), some_of(missing, kNamesShown));
}

// False where another worker puts the shares together. --finish waits for it.
bool PartWriter::claim_finish() {
  std::set<std::string> dead;
  while (!worker_->claim(kFinish, dead)) {
    const auto owner = worker_->owner(kFinish);
    if (!owner) continue;
    if (worker_->living({*owner}, [this] { tick(); }).empty()) {
      dead.insert(*owner);
    } else if (options_.part) {
      notes_.push_back(
          fmt::format("{} puts the shares together", describe_worker(parts_.path(), *owner)));
      return false;
    }
    tick();
    if (is_complete()) {
      complete_ = true;
      return false;
    }
    std::this_thread::sleep_for(std::min(options_.pace.beat, std::chrono::milliseconds(200)));
  }
  return true;
}

// The record of every shard. A worker that was killed while it cleaned up, or one that does so now,
// has left the manifest in their place.
std::vector<std::optional<ShardRecord>> PartWriter::records() const {
  std::vector<std::optional<ShardRecord>> found;
  bool all = true;
  for (const auto& shard : model_.shards)
    all &= found.emplace_back(parts_.read(shard->name())).has_value();
  if (all) return found;
  std::map<std::string, ShardRecord> others;
  for (ShardRecord& record : shards_of_one_process(partial_, options_.plan))
    others.emplace(record.name, std::move(record));
  for (size_t s = 0; s < found.size(); ++s) {
    const auto other = others.find(model_.shards[s]->name());
    if (!found[s] && other != others.end()) found[s] = other->second;
  }
  return found;
}

void PartWriter::check_shards() {
  const size_t count = model_.shards.size();
  uint64_t total = 0, done = 0;
  for (const auto& shard : model_.shards) total += shard->file_bytes();
  const std::vector<std::optional<ShardRecord>> found = records();
  std::vector<std::string> defects(count);
  for (size_t first = 0; first < count; first += threads_.count()) {
    const size_t wave = std::min(threads_.count(), count - first);
    threads_.run(wave, [&](size_t i) {
      const ShardFile& shard = *model_.shards[first + i];
      defects[first + i] = defect_of(partial_ / shard.name(), found[first + i], shard);
    });
    for (size_t s = first; s < first + wave; ++s) done += model_.shards[s]->file_bytes();
    if (options_.progress) options_.progress({"verifying", "bytes", done, total});
  }
  std::vector<std::string> wrong;
  for (size_t s = 0; s < count; ++s) {
    if (defects[s].empty()) records_.push_back(*found[s]);
    if (!defects[s].empty()) wrong.push_back(model_.shards[s]->name() + ": " + defects[s]);
  }
  if (wrong.empty()) return;
  if (!fs::exists(parts_.path())) throw failed_error("{}: went away", parts_.path().string());
  // What one process has left must not bring them back; all else has a record of its own.
  fs::remove(partial_ / kManifestName);
  fs::remove(partial_ / kJournalName);
  for (size_t s = 0; s < count; ++s) {
    if (!defects[s].empty()) parts_.forget(model_.shards[s]->name());
  }
  worker_->release(kFinish);
  throw Error(ExitCode::kVerify,
              fmt::format("{}: {}; run the parts again: only what is wrong is written anew",
                          partial_.string(), some_of(wrong, kNamesShown)));
}

void PartWriter::put_inner(const std::string& name, std::string_view content) {
  if (!is_inner_name(name)) throw failed_error("{}: not the name of a model's file", name);
  unless_complete([&] {
    // Never OUT.partial itself, which another worker may just have renamed.
    fs::path folder = partial_;
    for (const fs::path& part : fs::path(name).parent_path()) {
      if (fs::create_directory(folder / part)) sync_folder(folder);
      folder /= part;
    }
    worker_->put(partial_ / name, content);
  });
}

void PartWriter::add_note(const std::string& name, std::string_view content) {
  if (finishing_) put_inner(name, content);
}

void PartWriter::add_file(const std::string& name, std::string_view content) {
  if (!finishing_) return;
  put_inner(name, content);
  files_[name] = sha256_hex(content);
}

std::filesystem::path PartWriter::readable() {
  if (model_.shards.size() > 1) add_file(std::string(kIndexName), index_text(model_));
  return partial_;
}

void PartWriter::commit(const Json& about) {
  if (!finishing_) return;
  readable();
  const Manifest manifest{options_.plan, about, records_, files_};
  put_inner(std::string(kManifestName), manifest.text());
  unless_complete([&] {
    // From here on a worker that finds no records goes by lewis_manifest.json.
    clean_up(manifest);
    publish();
    committed_ = true;
  });
}

// Leaves what the manifest names, and notes.
void PartWriter::clean_up(const Manifest& manifest) {
  worker_->stop();
  std::set<std::string> temporaries = {std::string(kPartsFolder), std::string(kJournalName),
                                       std::string(kPartialMarker)};
  for (const ShardRecord& shard : manifest.shards) temporaries.insert(shard.name + ".tmp");
  for (const std::string& name : temporaries) {
    std::error_code ignored;  // another worker may be about to write there, or to remove it, too
    fs::remove_all(partial_ / name, ignored);
  }
  sync_folder(partial_);
}

// Gives OUT its name. Of several workers one succeeds.
void PartWriter::publish() {
  refuse_existing_out(out_, options_.force);
  if (fs::exists(fs::symlink_status(out_))) {
    const fs::path ready = partial_.string() + std::string(kReady) + worker_->token();
    fs::rename(partial_, ready);
    replace_folder(ready, out_);
  } else {
    fs::rename(partial_, out_);
  }
  for (const std::string_view name : {kPartsFolder, kPartialMarker}) {
    std::error_code ignored;  // what a worker put there that came too late
    fs::remove_all(out_ / name, ignored);
  }
  sync_folder(out_.parent_path());
}

WrittenState PartWriter::state() const {
  return {committed_ || complete_, complete_ ? 0 : missing_, model_.shards.size(), notes_};
}

}  // namespace lewis
