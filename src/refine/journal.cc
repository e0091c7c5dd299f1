#include "refine/journal.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>

#include "base/current_error.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "io/safetensors.h"
#include "refine/result_json.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The errors, the choices, the decision and the notes of a block, in its file's metadata.
Metadata metadata_of(const BlockResult& r) { return {{"lewis_refined", dump_json(to_json(r))}}; }

BlockResult result_of(const SafetensorsFile& file) {
  const auto found = file.metadata().find("lewis_refined");
  if (found == file.metadata().end())
    throw input_error("{}: is no file of a refinement", file.path().string());
  const Json json = parse_json(found->second, file.path().string());
  try {
    return block_result_of(json);
  } catch (const Json::exception&) {
    throw input_error(
        "{}: lewis_refined says something else than a refinement writes; remove the "
        "folder",
        file.path().string());
  }
}

ShardRecord record_of(const fs::path& path) {
  const File file = File::open_read(path);
  return {path.filename().string(), file.size(), file_sha256(file), {}};
}

void clear(const fs::path& folder) {
  std::vector<fs::path>
      entries;  // the marker goes last: what a crash leaves is still known as ours
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().filename() != kRefineMarker) entries.push_back(entry.path());
  }
  for (const fs::path& path : entries) fs::remove_all(path);
}

}  // namespace

RefineJournal::RefineJournal(fs::path folder, const std::string& plan, bool resume)
    : folder_(std::move(folder)) {
  const fs::file_status status = fs::symlink_status(folder_);
  if (fs::exists(status) && (!fs::is_directory(status) ||
                             (!fs::exists(folder_ / kRefineMarker) && !fs::is_empty(folder_))))
    throw usage_error("{}: exists and was not left by lewis; move it away", folder_.string());
  try {
    fs::create_directories(folder_);
  } catch (const fs::filesystem_error& e) {
    throw file_error(folder_, "cannot be made", e.code());
  }
  marker_ = File::open_append(folder_ / kRefineMarker);
  if (!marker_->try_lock())
    throw usage_error("{}: another lewis is working there", folder_.string());
  const fs::path journal = folder_ / kJournalName;
  const JournalIdentity identity{"refinement", plan};
  if (resume && fs::exists(journal)) {
    take_over(identity);
  } else {
    clear(folder_);
  }
  std::vector<Json> records;
  for (const ShardRecord& record : done_) records.push_back(to_json(record));
  if (!done_.empty()) {
    for (const std::string_view stream : {"experts", "merged"})
      records.push_back(to_json(record_of(folder_ / streams_name(blocks_done() - 1, stream))));
  }
  journal_ = JsonLines::begin(journal, identity, records);
}

RefineJournal::~RefineJournal() {
  if (keep_) return;
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

fs::path RefineJournal::block_file(int64_t block) const {
  return folder_ / fmt::format("block-{:05}.safetensors", block);
}

std::string RefineJournal::streams_name(int64_t block, std::string_view stream) const {
  return fmt::format("{}-{:05}.bin", stream, block);
}

// The blocks from the first on whose files are whole, and the streams after the last of them; what
// lies beside them is removed.
void RefineJournal::take_over(const JournalIdentity& identity) {
  std::vector<ShardRecord> found;
  for (const Json& record : read_json_lines(folder_ / kJournalName, identity))
    found.push_back(shard_from_json(record));
  const auto whole = [&](const std::string& name) -> const ShardRecord* {
    const auto it = std::ranges::find(found, name, &ShardRecord::name);
    return it != found.end() && shard_matches(folder_, *it) ? &*it : nullptr;
  };
  for (int64_t block = 0;; ++block) {
    const ShardRecord* record = whole(block_file(block).filename().string());
    if (!record) break;
    done_.push_back(*record);
  }
  const auto streams_are_whole = [&] {
    const int64_t last = blocks_done() - 1;
    return whole(streams_name(last, "experts")) && whole(streams_name(last, "merged"));
  };
  while (!done_.empty() && !streams_are_whole()) done_.pop_back();
  std::set<std::string> kept = {std::string(kRefineMarker), std::string(kJournalName)};
  for (const ShardRecord& record : done_) kept.insert(record.name);
  for (const std::string_view stream : {"experts", "merged"})
    kept.insert(streams_name(blocks_done() - 1, stream));
  std::vector<fs::path> rest;
  for (const auto& entry : fs::directory_iterator(folder_)) {
    const std::string name = entry.path().filename().string();
    if (!kept.contains(name) && !name.starts_with("pass-")) rest.push_back(entry.path());
  }
  for (const fs::path& path : rest) fs::remove_all(path);
}

void RefineJournal::load_streams(StreamPair& streams) const {
  streams.experts.load(folder_ / streams_name(blocks_done() - 1, "experts"));
  streams.merged.load(folder_ / streams_name(blocks_done() - 1, "merged"));
}

BlockResult RefineJournal::result(int64_t block) const {
  return result_of(SafetensorsFile(block_file(block)));
}

void RefineJournal::add(const BlockResult& result, const TensorSource& like,
                        const StreamPair& streams) {
  const int64_t block = blocks_done();
  std::vector<TensorInfo> infos;
  std::vector<std::span<const std::byte>> data;
  for (const auto& [name, bytes] : result.tensors) {
    infos.push_back(like.get(name));
    data.push_back(bytes);
  }
  write_safetensors(block_file(block), infos, data, metadata_of(result));
  streams.experts.save(folder_ / streams_name(block, "experts"));
  streams.merged.save(folder_ / streams_name(block, "merged"));
  sync_folder(folder_);
  done_.push_back(record_of(block_file(block)));
  journal_->append(to_json(done_.back()));
  for (const std::string_view stream : {"experts", "merged"})
    journal_->append(to_json(record_of(folder_ / streams_name(block, stream))));
  journal_->sync();
  for (const std::string_view stream : {"experts", "merged"}) {
    if (block > 0) fs::remove(folder_ / streams_name(block - 1, stream));
  }
}

namespace {

class RefinedSource final : public TensorSource {
 public:
  RefinedSource(std::vector<std::shared_ptr<const RefineJournal>> journals, std::string label)
      : journals_(std::move(journals)), label_(std::move(label)) {
    struct Place {
      TensorInfo info;
      size_t file;
    };
    std::map<std::string, Place> places;
    for (const auto& journal : journals_) {
      for (int64_t b = 0; b < journal->blocks_done(); ++b) {
        files_.push_back(std::make_unique<SafetensorsFile>(
            journal->folder() / fmt::format("block-{:05}.safetensors", b)));
        for (const auto& entry : files_.back()->entries())
          places.insert_or_assign(entry.info.name, Place{entry.info, files_.size() - 1});
      }
    }
    for (auto& [name, place] : places) {
      tensors_.push_back(std::move(place.info));
      file_of_.push_back(place.file);
    }
  }

  const std::string& label() const override { return label_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    const TensorInfo& own = get(tensor.name);
    const SafetensorsFile& file = *files_[file_of_[static_cast<size_t>(&own - tensors_.data())]];
    file.read(*file.find(own.name), static_cast<uint64_t>(first) * dtype_size(own.dtype), out);
  }

 private:
  std::vector<std::shared_ptr<const RefineJournal>> journals_;
  std::string label_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::vector<TensorInfo> tensors_;  // sorted by name
  std::vector<size_t> file_of_;
};

}  // namespace

std::shared_ptr<const TensorSource> open_refined(
    std::vector<std::shared_ptr<const RefineJournal>> journals, const std::string& label) {
  return std::make_shared<const RefinedSource>(std::move(journals), label);
}

}  // namespace lewis
