#include "io/model_writer.h"

#include <set>

#include "base/current_error.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/file.h"
#include "io/manifest.h"
#include "io/model_folder.h"
#include "io/out_folder.h"
#include "io/parts_folder.h"

namespace lewis {

namespace fs = std::filesystem;

ModelWriter::ModelWriter(fs::path out, std::vector<TensorInfo> tensors,
                         const WriterOptions& options)
    : out_(resolved_out(out)),
      partial_(out_.string() + ".partial"),
      force_(options.force),
      plan_(options.plan) {
  refuse_existing_out(out_, force_);
  model_ = sharded(std::move(tensors), options.shard_bytes);
  const bool begun = fs::exists(partial_ / kJournalName) || fs::exists(partial_ / kManifestName) ||
                     fs::exists(partial_ / kPartsFolder);
  if (options.resume && options.require_partial && !begun)
    throw usage_error("{}: there is nothing to resume", partial_.string());
  const bool taken_over = options.resume && begun;
  if (taken_over) {
    take_over();
  } else {
    make_partial();
  }
  try {
    begin_journal();
    if (taken_over) remove_rest();
    check_space();
    open_shards();
  } catch (...) {
    if (!taken_over) remove_quietly(partial_);
    throw;
  }
}

ModelWriter::~ModelWriter() {
  if (committed_ || keep_) return;
  model_.shards.clear();
  remove_quietly(partial_);
}

// A new OUT.partial, in place of one that an earlier run left.
void ModelWriter::make_partial() {
  if (fs::exists(fs::symlink_status(partial_))) {
    refuse_partial_of_others(partial_);
    if (!File::open_append(partial_ / kPartialMarker).try_lock())
      throw usage_error("{}: another lewis is writing there", partial_.string());
    refuse_workers(partial_);
    remove_partial(partial_);
  }
  try {
    fs::create_directories(partial_);
    marker_ = File::create(partial_ / kPartialMarker);
  } catch (const fs::filesystem_error& e) {
    throw file_error(partial_, "cannot be made", e.code());
  }
  marker_->try_lock();
}

// The shards that earlier runs of the same plan have finished, as one process or as workers.
std::vector<ShardRecord> ModelWriter::finished_shards() const {
  std::vector<ShardRecord> finished = shards_of_one_process(partial_, plan_);
  const std::vector<ShardRecord> of_workers = shards_of_workers(partial_, plan_);
  finished.insert(finished.end(), of_workers.begin(), of_workers.end());
  return finished;
}

void ModelWriter::take_over() {
  refuse_partial_of_others(partial_);
  marker_ = File::open_append(partial_ / kPartialMarker);
  if (!marker_->try_lock())
    throw usage_error("{}: another lewis is writing there", partial_.string());
  refuse_workers(partial_);
  const std::vector<ShardRecord> finished = finished_shards();
  std::map<std::string_view, const ShardRecord*> by_name;
  for (const ShardRecord& record : finished) by_name.emplace(record.name, &record);
  for (const auto& shard : model_.shards) {
    const auto it = by_name.find(shard->name());
    if (it == by_name.end() || !shard_matches(partial_, *it->second)) continue;
    shard->take_over(*it->second);
  }
}

// Begins the journal anew, with the shards that were taken over.
void ModelWriter::begin_journal() {
  std::vector<Json> records;
  for (const auto& shard : model_.shards) {
    if (shard->is_done()) records.push_back(to_json(shard->record()));
  }
  journal_ = JsonLines::begin(partial_ / kJournalName, identity(), records);
}

// Everything but the shards that were taken over is written again.
void ModelWriter::remove_rest() const {
  std::set<std::string> kept = {std::string(kPartialMarker), std::string(kJournalName)};
  for (const auto& shard : model_.shards) {
    if (shard->is_done()) kept.insert(shard->name());
  }
  std::vector<fs::path> rest;
  for (const auto& entry : fs::directory_iterator(partial_)) {
    if (!kept.contains(entry.path().filename().string())) rest.push_back(entry.path());
  }
  for (const fs::path& path : rest) fs::remove_all(path);
}

void ModelWriter::check_space() const {
  uint64_t needed = 0;
  for (const auto& shard : model_.shards) needed += shard->is_done() ? 0 : shard->file_bytes();
  check_disk_space(partial_, out_, needed);
}

void ModelWriter::open_shards() {
  for (const auto& shard : model_.shards) {
    if (shard->is_done()) continue;
    shard->open(partial_ / (shard->name() + ".tmp"));
    if (shard->missing() == 0) finish(*shard);
  }
}

bool ModelWriter::is_done(size_t tensor) const {
  return model_.shards[model_.places.at(tensor).shard]->is_done();
}

size_t ModelWriter::lead(size_t tensor, uint64_t offset) const {
  return model_.lead(tensor, offset);
}

void ModelWriter::write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) {
  const ShardedTensors::Place& place = model_.places.at(tensor);
  ShardFile& shard = *model_.shards[place.shard];
  if (shard.write(place.entry, offset, bytes)) finish(shard);
}

void ModelWriter::finish(ShardFile& shard) {
  shard.close();
  fs::rename(partial_ / (shard.name() + ".tmp"), partial_ / shard.name());
  sync_folder(partial_);
  std::lock_guard lock(journal_mutex_);
  journal_->append(to_json(shard.record()));
  journal_->sync();
}

void ModelWriter::add_note(const std::string& name, std::string_view content) {
  if (!is_inner_name(name)) throw failed_error("{}: not the name of a model's file", name);
  const fs::path file = partial_ / name;
  if (fs::create_directories(file.parent_path())) sync_folder(file.parent_path().parent_path());
  write_file_durably(file, content);
}

void ModelWriter::add_file(const std::string& name, std::string_view content) {
  add_note(name, content);
  files_[name] = sha256_hex(content);
}

std::filesystem::path ModelWriter::readable() {
  if (shards() > 1) add_file(std::string(kIndexName), index_text(model_));
  return partial_;
}

void ModelWriter::commit() { commit(Json::object()); }

void ModelWriter::commit(const Json& about) {
  Manifest manifest{.plan = plan_, .about = about};
  for (const auto& shard : model_.shards) {
    if (shard->missing() != 0) {
      throw failed_error("{}: {} bytes of shard {} were never written", out_.string(),
                         shard->missing(), shard->name());
    }
    manifest.shards.push_back(shard->record());
  }
  readable();
  manifest.files = files_;
  write_file_durably(partial_ / kManifestName, manifest.text());
  // From here on a resumed run goes by lewis_manifest.json.
  fs::remove(partial_ / kJournalName);
  fs::remove(partial_ / kPartialMarker);
  sync_folder(partial_);
  refuse_existing_out(out_, force_);
  if (fs::exists(fs::symlink_status(out_))) {
    replace_folder(partial_, out_);
  } else {
    fs::rename(partial_, out_);
  }
  committed_ = true;
  sync_folder(out_.parent_path());
}

}  // namespace lewis
