#include "io/model_writer.h"

#include <algorithm>
#include <future>
#include <set>

#include "base/current_error.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/file.h"
#include "io/manifest.h"
#include "io/model_folder.h"
#include "io/out_folder.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Pieces of this size or more are hashed while they are written, which costs a thread.
constexpr size_t kHashedBeside = 1 << 20;

std::string shard_name(size_t index, size_t count) {
  return count == 1 ? "model.safetensors"
                    : fmt::format("model-{:05}-of-{:05}.safetensors", index + 1, count);
}

std::vector<std::vector<TensorInfo>> split(std::vector<TensorInfo> tensors, uint64_t shard_bytes) {
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.name < b.name; });
  std::vector<std::vector<TensorInfo>> shards(1);
  uint64_t bytes = 0;
  for (TensorInfo& t : tensors) {
    const uint64_t size = byte_size(t);
    if (!shards.back().empty() && bytes + size > shard_bytes) {
      shards.emplace_back();
      bytes = 0;
    }
    bytes += size;
    shards.back().push_back(std::move(t));
  }
  return shards;
}

}  // namespace

struct ModelWriter::Shard {
  Shard(std::string shard_name, const SafetensorsLayout& shard_layout)
      : name(std::move(shard_name)), layout(shard_layout) {
    for (const auto& entry : layout.entries()) missing += byte_size(entry.info);
  }

  std::string name;
  SafetensorsLayout layout;
  std::optional<File> file;
  std::optional<SequentialWriter> writer;  // into file
  std::atomic<uint64_t> missing = 0;       // bytes of tensors not yet written
  bool done = false;
  ShardRecord record;
  // While bytes come in the order of the file they are hashed as they come.
  std::mutex mutex;  // guards all that follows, and writer
  Sha256 hash;
  uint64_t hashed = 0;
  Xxh3 tensor_hash;  // of the tensor that is being written
};

ModelWriter::ModelWriter(fs::path out, std::vector<TensorInfo> tensors,
                         const WriterOptions& options)
    : out_(resolved_out(out)),
      partial_(out_.string() + ".partial"),
      force_(options.force),
      plan_(options.plan) {
  refuse_existing_out(out_, force_);
  const auto parts = split(std::move(tensors), options.shard_bytes);
  for (size_t s = 0; s < parts.size(); ++s) {
    const SafetensorsLayout layout(parts[s], Metadata{{"format", "pt"}});
    shards_.push_back(std::make_unique<Shard>(shard_name(s, parts.size()), layout));
    for (const auto& entry : layout.entries()) {
      tensors_.push_back(entry.info);
      shard_of_.push_back(s);
      begin_.push_back(entry.begin);
    }
    tensor_bytes_ += shards_.back()->missing;
  }
  const bool begun = fs::exists(partial_ / kJournalName) || fs::exists(partial_ / kManifestName);
  if (options.resume && options.require_partial && !begun)
    throw usage_error("{}: there is nothing to resume", partial_.string());
  const bool taken_over = options.resume && begun;
  if (taken_over) {
    take_over();
  } else {
    make_partial();
  }
  try {
    open_shards();
  } catch (...) {
    if (!taken_over) remove_quietly(partial_);
    throw;
  }
}

ModelWriter::~ModelWriter() {
  if (committed_ || keep_) return;
  shards_.clear();
  remove_quietly(partial_);
}

// A new OUT.partial, in place of one that an earlier run left.
void ModelWriter::make_partial() {
  if (fs::exists(fs::symlink_status(partial_))) {
    refuse_partial_of_others(partial_);
    if (!File::open_append(partial_ / kPartialMarker).try_lock())
      throw usage_error("{}: another lewis is writing there", partial_.string());
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

// The shards that an earlier run of the same plan has finished.
std::vector<ShardRecord> ModelWriter::finished_shards() const {
  const fs::path journal = partial_ / kJournalName;
  if (!fs::exists(journal)) {
    Manifest whole = read_manifest(partial_ / kManifestName);
    if (whole.plan != plan_) throw begun_otherwise(partial_);
    return std::move(whole.shards);
  }
  std::vector<ShardRecord> finished;
  for (const Json& record : read_json_lines(journal, identity()))
    finished.push_back(shard_from_json(record));
  return finished;
}

void ModelWriter::take_over() {
  refuse_partial_of_others(partial_);
  marker_ = File::open_append(partial_ / kPartialMarker);
  if (!marker_->try_lock())
    throw usage_error("{}: another lewis is writing there", partial_.string());
  const std::vector<ShardRecord> finished = finished_shards();
  std::map<std::string_view, const ShardRecord*> by_name;
  for (const ShardRecord& record : finished) by_name.emplace(record.name, &record);
  for (const auto& shard : shards_) {
    const auto it = by_name.find(shard->name);
    if (it == by_name.end() || !shard_matches(partial_, *it->second)) continue;
    shard->done = true;
    shard->missing = 0;
    shard->record = *it->second;
  }
  // Everything else is written again.
  std::set<std::string> kept = {std::string(kPartialMarker), std::string(kJournalName)};
  for (const auto& shard : shards_) {
    if (shard->done) kept.insert(shard->name);
  }
  std::vector<fs::path> rest;
  for (const auto& entry : fs::directory_iterator(partial_)) {
    if (!kept.contains(entry.path().filename().string())) rest.push_back(entry.path());
  }
  for (const fs::path& path : rest) fs::remove_all(path);
}

void ModelWriter::check_space(uint64_t needed) const {
  const fs::space_info space = fs::space(partial_);
  if (space.available < needed) {
    throw resource_error("{}: needs {} bytes of disk, {} are free", out_.string(), needed,
                         space.available);
  }
}

// Begins the journal anew, with the shards that were taken over, and the files of the others.
void ModelWriter::open_shards() {
  uint64_t needed = 0;
  for (const auto& shard : shards_) needed += shard->done ? 0 : shard->layout.file_bytes();
  check_space(needed);
  std::vector<Json> records;
  for (const auto& shard : shards_) {
    if (shard->done) records.push_back(to_json(shard->record));
  }
  journal_ = JsonLines::begin(partial_ / kJournalName, identity(), records);
  for (const auto& shard : shards_) {
    if (shard->done) continue;
    shard->file = File::create(partial_ / (shard->name + ".tmp"));
    shard->file->allocate(shard->layout.file_bytes());
    shard->writer.emplace(*shard->file);
    const auto header = std::as_bytes(std::span(shard->layout.header()));
    shard->writer->write(0, header);
    shard->hash.add(header);
    shard->hashed = header.size();
    if (shard->missing == 0) finish(*shard);
  }
}

bool ModelWriter::is_done(size_t tensor) const { return shards_[shard_of_.at(tensor)]->done; }

size_t ModelWriter::lead(size_t tensor, uint64_t offset) const {
  return (begin_.at(tensor) + offset) % File::kDirectAlignment;
}

// Adds the next bytes of the shard to its hashes.
void ModelWriter::add_to_hashes(Shard& shard, size_t tensor, uint64_t offset,
                                std::span<const std::byte> bytes) const {
  shard.hash.add(bytes);
  shard.hashed += bytes.size();
  if (offset == 0) shard.tensor_hash.reset();
  shard.tensor_hash.add(bytes);
  if (offset + bytes.size() == byte_size(tensors_[tensor]))
    shard.record.tensors[tensors_[tensor].name] = hash_text(shard.tensor_hash.value());
}

void ModelWriter::write(size_t tensor, uint64_t offset, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  Shard& shard = *shards_[shard_of_.at(tensor)];
  const uint64_t at = begin_[tensor] + offset;
  {
    std::lock_guard lock(shard.mutex);
    std::future<void> hashing;
    if (shard.hashed == at) {
      // Hashing takes about as long as the disk does.
      hashing =
          std::async(bytes.size() < kHashedBeside ? std::launch::deferred : std::launch::async,
                     [&] { add_to_hashes(shard, tensor, offset, bytes); });
    }
    shard.writer->write(at, bytes);
    if (hashing.valid()) hashing.get();
  }
  if (shard.missing.fetch_sub(bytes.size()) == bytes.size()) finish(shard);
}

void ModelWriter::finish(Shard& shard) {
  shard.writer->flush();
  shard.file->sync();
  shard.record.name = shard.name;
  shard.record.bytes = shard.layout.file_bytes();
  if (shard.hashed == shard.record.bytes) {
    shard.record.sha256 = shard.hash.hex();
  } else {
    shard.record.sha256 = file_sha256(*shard.file);
  }
  for (const auto& entry : shard.layout.entries()) {  // those that did not come in order
    std::string& hash = shard.record.tensors[entry.info.name];
    if (hash.empty()) hash = xxh3_of(*shard.file, entry.begin, byte_size(entry.info));
  }
  fs::rename(partial_ / (shard.name + ".tmp"), partial_ / shard.name);
  sync_folder(partial_);
  std::lock_guard lock(journal_mutex_);
  journal_->append(to_json(shard.record));
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

void ModelWriter::commit() { commit(Json::object()); }

void ModelWriter::commit(const Json& about) {
  Manifest manifest{.plan = plan_, .about = about};
  std::map<std::string, std::string> shard_of_tensor;
  for (const auto& shard : shards_) {
    if (shard->missing != 0) {
      throw failed_error("{}: {} bytes of shard {} were never written", out_.string(),
                         shard->missing.load(), shard->name);
    }
    manifest.shards.push_back(shard->record);
    for (const auto& entry : shard->layout.entries())
      shard_of_tensor[entry.info.name] = shard->name;
  }
  if (shards_.size() > 1) {
    const Json index = {{"metadata", {{"total_size", tensor_bytes_}}},
                        {"weight_map", shard_of_tensor}};
    add_file("model.safetensors.index.json", index.dump(2) + "\n");
  }
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
