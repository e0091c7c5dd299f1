#include "io/checkpoint.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/config_json.h"
#include "base/current_error.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/model_files.h"
#include "base/text_file.h"
#include "io/plain_json.h"

namespace lewis {

namespace fs = std::filesystem;

struct CheckpointIndex {
  struct Place {
    std::string tensor;
    uint32_t shard = 0;
  };
  std::string file;                 // as messages name it; "": there is no index
  std::vector<std::string> shards;  // sorted names
  std::vector<Place> places;        // sorted by tensor; empty without an index
  size_t named_twice = 0;
  std::string twice;  // the first tensor that is named twice
};

namespace {

constexpr size_t kMostShards = 100'000;
constexpr std::string_view kSingle = "model.safetensors", kIndex = "model.safetensors.index.json";

// Shard names of an index: a plain name in the folder (which may be a link into a cache's blobs).
void check_shard_name(const std::string& name, const std::string& index) {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\\') != std::string::npos || name.find('\0') != std::string::npos) {
    throw input_error("{}: shard name '{}' leaves the folder", index, name);
  }
}

void sort_shards(CheckpointIndex& index) {
  std::vector<std::string> sorted = index.shards;
  std::ranges::sort(sorted);
  std::vector<uint32_t> place;
  for (const std::string& shard : index.shards) {
    const auto it = std::ranges::lower_bound(sorted, shard);
    place.push_back(static_cast<uint32_t>(it - sorted.begin()));
  }
  for (auto& p : index.places) p.shard = place[p.shard];
  index.shards = std::move(sorted);
}

// Of a tensor that is named twice the last counts, as in Python.
void sort_places(CheckpointIndex& index) {
  auto& places = index.places;
  if (!std::ranges::is_sorted(places, {}, &CheckpointIndex::Place::tensor))
    std::ranges::stable_sort(places, {}, &CheckpointIndex::Place::tensor);
  size_t kept = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    const bool again = kept > 0 && places[kept - 1].tensor == places[i].tensor;
    if (again && index.named_twice++ == 0) index.twice = places[i].tensor;
    if (!again) ++kept;
    if (kept - 1 != i) places[kept - 1] = std::move(places[i]);
  }
  places.resize(kept);
}

// Collects what an index says.
class IndexBuilder {
 public:
  explicit IndexBuilder(const fs::path& folder) { index_.file = (folder / kIndex).string(); }

  void add(std::string tensor, std::string_view shard) {
    auto it = known_.find(shard);
    if (it == known_.end()) {
      if (known_.size() >= kMostShards)
        throw input_error("{}: names more than {} shards", index_.file, kMostShards);
      check_shard_name(std::string(shard), index_.file);
      index_.shards.emplace_back(shard);
      it = known_.emplace(shard, static_cast<uint32_t>(known_.size())).first;
    }
    index_.places.push_back({std::move(tensor), it->second});
  }

  // Goes through the whole text with the strict parser.
  void parse(const std::string& text) {
    const auto take = [&](std::string& tensor, Json& shard) {
      if (!shard.is_string())
        throw input_error("{}: the shard of tensor {} is not a name", index_.file, tensor);
      add(std::move(tensor), shard.get_ref<const std::string&>());
    };
    const Json rest = parse_json_members(text, index_.file, "weight_map", take);
    if (!rest.is_object() || !rest.contains("weight_map") || !rest["weight_map"].is_object())
      throw input_error("{}: expected an object with weight_map", index_.file);
  }

  // The same for an index as programs write it; false for any other (io/plain_json.h).
  bool scan(const std::string& text) {
    if (!is_utf8(text)) return false;
    PlainJson json(text);
    std::string_view key, value;
    uint64_t number = 0;
    if (!json.take('{') || !json.key(key)) return false;
    if (key == "metadata") {
      const bool plain = json.take('{') && json.key_is("total_size") && json.natural(number) &&
                         json.take('}') && json.take(',') && json.key(key);
      if (!plain) return false;
    }
    if (key != "weight_map" || !json.take('{')) return false;
    do {
      if (!json.key(key) || !json.string(value)) return false;
      add(std::string(key), value);
    } while (json.take(','));
    return json.take('}') && json.take('}') && json.is_at_end();
  }

  CheckpointIndex result() {
    if (index_.places.empty()) throw input_error("{}: weight_map is empty", index_.file);
    sort_shards(index_);
    sort_places(index_);
    return std::move(index_);
  }

 private:
  CheckpointIndex index_;
  std::map<std::string, uint32_t, std::less<>> known_;  // shards
};

CheckpointIndex read_index(const fs::path& folder) {
  const std::string text = read_model_file(folder, kIndex);
  if (IndexBuilder quick(folder); quick.scan(text)) return quick.result();
  IndexBuilder strict(folder);
  strict.parse(text);
  return strict.result();
}

bool is_lfs_pointer_file(const fs::path& file) {
  try {
    const File opened = File::open_read(file);
    std::string begin(std::min<uint64_t>(opened.size(), 64), '\0');
    opened.read_at(0, std::as_writable_bytes(std::span(begin)));
    return is_lfs_pointer(begin);
  } catch (const Error&) {
    return false;
  }
}

[[noreturn]] void refuse_folder(const fs::path& folder) {
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth")) {
      if (is_lfs_pointer_file(entry.path())) throw lfs_pointer_error(entry.path());
      throw input_error(
          "{}: a pickle can run any code and is never opened; convert it first: python -c \"from "
          "transformers import AutoModelForCausalLM as M; "
          "M.from_pretrained('{}').save_pretrained('NEW')\"",
          entry.path().string(), folder.string());
    }
    if (name == "adapter_config.json")
      throw input_error("{}: a LoRA adapter, expected a whole model", folder.string());
    if (name.ends_with(".gguf"))
      throw input_error("{}: a GGUF file is a model by itself: name it instead of its folder",
                        entry.path().string());
  }
  throw input_error("{}: holds neither model.safetensors nor model.safetensors.index.json",
                    folder.string());
}

bool is_folder(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (error && status.type() != fs::file_type::not_found)
    throw file_error(path, "cannot be opened", error);
  return fs::is_directory(status);
}

// Sorts what consists of sorted runs, whose ends are given; 0 is the first of them.
template <typename T, typename Less>
void merge_runs(std::vector<T>& all, std::vector<size_t> ends, const Less& less) {
  const auto at = [&](size_t i) { return all.begin() + static_cast<std::ptrdiff_t>(ends[i]); };
  while (ends.size() > 2) {
    std::vector<size_t> joined = {0};
    for (size_t i = 2; i < ends.size(); i += 2) {
      std::inplace_merge(at(i - 2), at(i - 1), at(i), less);
      joined.push_back(ends[i]);
    }
    if (joined.back() != all.size()) joined.push_back(all.size());
    if (joined.size() == ends.size()) break;  // what is left over is empty
    ends = std::move(joined);
  }
}

// "model-00001-of-00005.safetensors and 4 more".
std::string first_and_more(const std::string& first, size_t count) {
  return count == 1 ? first : fmt::format("{} and {} more", first, count - 1);
}

// True if there is an index, and it names other shards than model.safetensors.
bool has_index_of_others(const fs::path& folder) {
  if (!has_model_file(folder, kIndex)) return false;
  try {
    return read_index(folder).shards != std::vector{std::string(kSingle)};
  } catch (const Error&) {
    return true;
  }
}

// A note about weights beside those that are read, if there are any.
void note_other_shards(const fs::path& folder, const std::vector<std::string>& read,
                       std::vector<std::string>& notes) {
  std::set<std::string> others;
  const bool single = read == std::vector{std::string(kSingle)};
  if (single && has_index_of_others(folder)) others.insert(std::string(kIndex));
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("model") && name.ends_with(".safetensors") &&
        !std::ranges::binary_search(read, name))
      others.insert(name);
  }
  if (others.empty()) return;
  notes.push_back(fmt::format("{}: {} {} not read: {}", folder.string(),
                              first_and_more(*others.begin(), others.size()),
                              others.size() == 1 ? "is" : "are",
                              single ? "model.safetensors is the whole model, as for transformers"
                                     : "the index does not name it"));
}

// The tensors that a note is about: how many, and the first.
struct Noted {
  size_t count = 0;
  std::string first;

  void add(const std::string& tensor) {
    if (count++ == 0) first = tensor;
  }
};

// What an index says that is not so.
struct Contradictions {
  Noted absent, elsewhere, unnamed, several;

  void add_to(std::vector<std::string>& notes, const CheckpointIndex& index) const {
    const auto note = [&](const Noted& noted, std::string_view one, std::string_view many) {
      if (noted.count == 0) return;
      notes.push_back(fmt::format("{}: {} {}", index.file, first_and_more(noted.first, noted.count),
                                  noted.count == 1 ? one : many));
    };
    note({index.named_twice, index.twice}, "is named twice; the last counts",
         "are named twice; the last counts");
    note(absent, "is named, but no shard holds it; it is left out",
         "are named, but no shard holds them; they are left out");
    note(elsewhere, "lies in another shard than it says, and is read from there",
         "lie in other shards than it says, and are read from there");
    note(unnamed, "lies in a shard, but is not named; it is read as well",
         "lie in shards, but are not named; they are read as well");
    note(several, "lies in several shards; the one that is named is read",
         "lie in several shards; those that are named are read");
  }
};

}  // namespace

// True for a file of the folder, and for one that lies elsewhere.
bool Checkpoint::has(std::string_view file) const {
  return has_model_file(folder_, file) || (far_ && far_->find(folder_ / file));
}

void Checkpoint::open_shards(const CheckpointIndex& index) {
  for (const std::string& name : index.shards) {
    if (has_model_file(folder_, name)) {
      shards_.push_back(std::make_unique<SafetensorsFile>(folder_ / name));
    } else if (auto far = far_ ? far_->find(folder_ / name) : nullptr) {
      shards_.push_back(std::make_unique<SafetensorsFile>(folder_ / name, std::move(far)));
    } else {
      throw input_error("{}: shard is missing (named by {})", (folder_ / name).string(),
                        index.file);
    }
  }
}

// Every tensor comes from the shard that holds it; where several do, from the one that the index
// names, else from the last.
void Checkpoint::choose_tensors(const CheckpointIndex& index) {
  struct Found {
    const TensorInfo* info;
    uint32_t shard;
  };
  std::vector<Found> all;
  std::vector<size_t> ends = {0};  // the shards' tensors, which are sorted
  for (uint32_t s = 0; s < shards_.size(); ++s) {
    for (const auto& entry : shards_[s]->entries()) all.push_back({&entry.info, s});
    ends.push_back(all.size());
  }
  merge_runs(all, ends, [](const Found& x, const Found& y) { return x.info->name < y.info->name; });
  tensors_.reserve(all.size());
  shard_of_.reserve(all.size());
  Contradictions wrong;
  auto place = index.places.begin();
  const auto pass_absent = [&](const std::string* before) {
    for (; place != index.places.end() && (!before || place->tensor < *before); ++place)
      wrong.absent.add(place->tensor);
  };
  for (size_t i = 0, end; i < all.size(); i = end) {
    const std::string& name = all[i].info->name;
    for (end = i + 1; end < all.size() && all[end].info->name == name;) ++end;
    const auto holders = std::span(all).subspan(i, end - i);
    Found chosen = holders.back();
    pass_absent(&name);
    if (place != index.places.end() && place->tensor == name) {
      const auto same = std::ranges::find(holders, place->shard, &Found::shard);
      if (same != holders.end()) chosen = *same;
      if (same == holders.end()) wrong.elsewhere.add(name);
      ++place;
    } else if (!index.places.empty()) {
      wrong.unnamed.add(name);
    }
    if (holders.size() > 1) {
      wrong.several.add(name);
      choices_ += fmt::format("{} {}\n", name, shards_[chosen.shard]->path().filename().string());
    }
    tensors_.push_back(*chosen.info);
    shard_of_.push_back(chosen.shard);
  }
  pass_absent(nullptr);
  wrong.add_to(notes_, index);
}

Checkpoint Checkpoint::open(const fs::path& folder, std::shared_ptr<const FarFiles> far) {
  if (!is_folder(folder)) throw input_error("{}: no such folder", folder.string());
  Checkpoint c;
  c.folder_ = folder;
  c.label_ = folder.string();
  c.far_ = std::move(far);
  CheckpointIndex index;
  if (c.has(kSingle)) {
    index.shards = {std::string(kSingle)};
  } else if (has_model_file(folder, kIndex)) {
    index = read_index(folder);
  } else {
    refuse_folder(folder);
  }
  c.open_shards(index);
  c.choose_tensors(index);
  note_other_shards(folder, index.shards, c.notes_);
  if (has_model_file(folder, "config.json")) {
    const std::string file = (folder / "config.json").string();
    c.config_ =
        std::make_shared<const Json>(parse_config(read_model_file(folder, "config.json"), file));
    if (!c.config_->is_object()) throw input_error("{}: not a JSON object", file);
  }
  return c;
}

const SafetensorsFile& Checkpoint::shard_of(const TensorInfo& tensor) const {
  const auto it =
      std::lower_bound(tensors_.begin(), tensors_.end(), tensor.name,
                       [](const TensorInfo& t, const std::string& n) { return t.name < n; });
  return *shards_[shard_of_[static_cast<size_t>(it - tensors_.begin())]];
}

void Checkpoint::read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const {
  const SafetensorsFile& shard = shard_of(tensor);
  shard.read(*shard.find(tensor.name), static_cast<uint64_t>(first) * dtype_size(tensor.dtype),
             out);
}

ReadCost Checkpoint::read_cost(const TensorInfo& tensor) const {
  ReadCost cost = TensorSource::read_cost(tensor);
  if (!far_) return cost;
  const SafetensorsFile& shard = shard_of(tensor);
  if (const auto place = shard.far_place(*shard.find(tensor.name))) cost.places.push_back(*place);
  return cost;
}

const Json& Checkpoint::config() const {
  if (!config_) throw input_error("{}: is missing", (folder_ / "config.json").string());
  return *config_;
}

std::vector<fs::path> Checkpoint::shard_paths() const {
  std::vector<fs::path> paths;
  for (const auto& shard : shards_) paths.push_back(shard->path());
  return paths;
}

uint64_t Checkpoint::total_bytes() const {
  uint64_t bytes = 0;
  for (const TensorInfo& t : tensors_) bytes += byte_size(t);
  return bytes;
}

std::string Checkpoint::fingerprint() const {
  Sha256 hash;
  for (const auto& shard : shards_) {
    hash.add(fmt::format("{} {}\n", shard->path().filename().string(), shard->state()));
    hash.add(shard->header());
  }
  hash.add(choices_);
  if (config_) hash.add(read_model_file(folder_, "config.json"));
  return hash.hex();
}

}  // namespace lewis
