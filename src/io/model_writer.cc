#include "io/model_writer.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <future>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/file.h"
#include "io/manifest.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarker =
    ".lewis-partial";  // tells an OUT.partial of ours from anything else

// Pieces of this size or more are hashed while they are written, which costs a thread.
constexpr size_t kHashedBeside = 1 << 20;

// True when `inner` is `outer` or lies below it; both are resolved.
bool is_within(const fs::path& inner, const fs::path& outer) {
  const auto [a, b] = std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end());
  return a == outer.end();
}

// The folder without a '/' at its end, links resolved as far as it exists.
fs::path resolved(const fs::path& path) {
  fs::path whole = fs::weakly_canonical(fs::absolute(path));
  return whole.has_filename() ? whole : whole.parent_path();
}

bool is_model_file(const std::string& name) {
  static constexpr std::array<std::string_view, 9> kEnds = {
      ".safetensors", ".json", ".md", ".yml", ".yaml", ".model", ".txt", ".jinja", ".html"};
  return name == ".gitattributes" ||
         std::any_of(kEnds.begin(), kEnds.end(),
                     [&](std::string_view end) { return name.ends_with(end); });
}

// Swaps two folders in one step where the file system can, else through a third name.
void replace_folder(const fs::path& fresh, const fs::path& out) {
  const fs::path old = out.string() + ".old-" + std::to_string(::getpid());
  if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, out.c_str(), RENAME_EXCHANGE) == 0) {
    fs::rename(fresh, old);
  } else {
    fs::rename(out, old);
    fs::rename(fresh, out);
  }
  fs::remove_all(old);
}

// The marker goes last, so that the leftovers of a crash are still known as ours.
void remove_partial(const fs::path& partial) {
  std::vector<fs::path> entries;
  for (const auto& entry : fs::directory_iterator(partial)) {
    if (entry.path().filename() != kMarker) entries.push_back(entry.path());
  }
  for (const fs::path& path : entries) fs::remove_all(path);
  fs::remove(partial / kMarker);
  fs::remove(partial);
}

void remove_quietly(const fs::path& partial) {
  try {
    if (fs::exists(partial)) remove_partial(partial);
  } catch (const fs::filesystem_error&) {  // the error that brought us here is the one to tell
  }
}

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

std::span<const std::string_view> tokenizer_file_names() {
  static constexpr std::array<std::string_view, 12> kNames = {"tokenizer.json",
                                                              "tokenizer_config.json",
                                                              "special_tokens_map.json",
                                                              "added_tokens.json",
                                                              "vocab.json",
                                                              "merges.txt",
                                                              "vocab.txt",
                                                              "tokenizer.model",
                                                              "spiece.model",
                                                              "tekken.json",
                                                              "chat_template.jinja",
                                                              "chat_template.json"};
  return kNames;
}

void refuse_out_in_sources(const fs::path& out, std::span<const fs::path> sources) {
  const fs::path target = resolved(out);
  for (const fs::path& source : sources) {
    const fs::path folder = resolved(source);
    if (is_within(target, folder) || is_within(folder, target)) {
      throw usage_error("{}: OUT and the source {} lie in each other; sources are never written to",
                        out.string(), source.string());
    }
  }
}

void refuse_existing_out(const fs::path& out, bool force) {
  if (!fs::exists(fs::symlink_status(out))) return;
  if (!force) throw usage_error("{}: exists already; --force replaces it", out.string());
  if (!fs::is_directory(fs::symlink_status(out))) {
    throw usage_error("{}: is not a folder, so --force does not replace it", out.string());
  }
  for (const auto& entry : fs::directory_iterator(out)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_directory() || !is_model_file(name)) {
      throw usage_error(
          "{}: holds '{}', which is no file of a model folder, so --force does not replace it",
          out.string(), name);
    }
  }
}

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
    : out_(resolved(out)),
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
  if (options.resume) {
    take_over();
  } else {
    make_partial();
  }
  try {
    open_shards();
  } catch (...) {
    if (!options.resume) remove_quietly(partial_);
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
  if (fs::exists(partial_)) {
    const bool ours = fs::is_empty(partial_) || fs::exists(partial_ / kMarker) ||
                      fs::exists(partial_ / kJournalName) || fs::exists(partial_ / kManifestName);
    if (!ours) {
      throw usage_error("{}: exists and was not left by lewis; move it away", partial_.string());
    }
    if (!File::open_append(partial_ / kMarker).try_lock()) {
      throw usage_error("{}: another lewis is writing there", partial_.string());
    }
    remove_partial(partial_);
  }
  try {
    fs::create_directories(partial_);
    marker_ = File::create(partial_ / kMarker);
  } catch (const fs::filesystem_error& e) {
    throw resource_error("{}: cannot be made: {}", partial_.string(), e.code().message());
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
  if (!fs::exists(partial_ / kJournalName) && !fs::exists(partial_ / kManifestName)) {
    throw usage_error("{}: there is nothing to resume", partial_.string());
  }
  marker_ = File::open_append(partial_ / kMarker);
  if (!marker_->try_lock())
    throw usage_error("{}: another lewis is writing there", partial_.string());
  const std::vector<ShardRecord> finished = finished_shards();
  for (const auto& shard : shards_) {
    const auto it = std::ranges::find(finished, shard->name, &ShardRecord::name);
    if (it == finished.end() || !shard_matches(partial_, *it)) continue;
    shard->done = true;
    shard->missing = 0;
    shard->record = *it;
  }
  // Everything else is written again.
  std::set<std::string> kept = {kMarker, std::string(kJournalName)};
  for (const auto& shard : shards_) {
    if (shard->done) kept.insert(shard->name);
  }
  std::vector<fs::path> rest;
  for (const auto& entry : fs::directory_iterator(partial_)) {
    if (!kept.contains(entry.path().filename().string())) rest.push_back(entry.path());
  }
  for (const fs::path& path : rest) fs::remove(path);
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
  write_file_durably(partial_ / name, content);
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
  fs::remove(partial_ / kMarker);
  sync_folder(partial_);
  refuse_existing_out(out_, force_);
  if (fs::exists(out_)) {
    replace_folder(partial_, out_);
  } else {
    fs::rename(partial_, out_);
  }
  committed_ = true;
  sync_folder(out_.parent_path());
}

}  // namespace lewis
