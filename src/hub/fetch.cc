#include "hub/fetch.h"

#include <array>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/model_files.h"
#include "hub/needed_files.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

bool is_there(const fs::path& file) {
  std::error_code error;
  return fs::exists(file, error);
}

// Files that programs look for when they load a model, so that they need not ask for those that
// the commit does not have.
void note_absent_files(const CacheEntry& entry, const RemoteRepo& repo) {
  static constexpr std::array<std::string_view, 9> kLookedFor = {"adapter_config.json",
                                                                 "added_tokens.json",
                                                                 "chat_template.jinja",
                                                                 "config.json",
                                                                 "generation_config.json",
                                                                 kWeightsFile,
                                                                 kIndexFile,
                                                                 "special_tokens_map.json",
                                                                 "tokenizer_config.json"};
  for (const std::string_view name : kLookedFor) {
    if (!find_file(repo, name)) entry.note_absent(repo.commit, std::string(name));
  }
}

std::string read_index(const fs::path& snapshot) {
  const bool there = is_there(snapshot / kIndexFile) && !is_there(snapshot / kWeightsFile);
  return there ? read_model_file(snapshot, kIndexFile) : "";
}

bool has_part(const fs::path& snapshot, ModelPart part) {
  return part == ModelPart::kTokenizer ? is_there(snapshot / "tokenizer.json")
                                       : is_whole_model(snapshot);
}

}  // namespace

bool is_whole_model(const fs::path& snapshot) {
  if (is_there(snapshot / "adapter_config.json") && is_there(snapshot / kAdapterFile)) return true;
  if (!is_there(snapshot / "config.json")) return false;
  if (is_there(snapshot / kWeightsFile)) return true;
  try {
    const std::string index = read_index(snapshot);
    if (index.empty()) return false;
    bool whole = true;
    parse_json_members(index, "", "weight_map", [&](std::string&, Json& shard) {
      whole = whole && shard.is_string() && is_there(snapshot / shard.get<std::string>());
    });
    return whole;
  } catch (const Error&) {
    return false;
  }
}

ModelFetcher::ModelFetcher(HubOptions options, StopFn stop,
                           std::function<void(const std::string&)> note, ProgressFn progress)
    : client_(std::move(options), std::move(stop), std::move(note)),
      progress_(std::move(progress)) {}

std::optional<FetchedModel> ModelFetcher::cached_model(const RepoId& id, ModelPart part) const {
  const CacheEntry entry(client_.options().cache, id);
  const std::string known = entry.commit_of(id.revision);
  const std::string commit = known.empty() ? id.revision : known;
  const fs::path folder = entry.snapshot(commit);
  std::error_code error;
  if (commit.find('/') != commit.npos || !fs::is_directory(folder, error)) return std::nullopt;
  if (!client_.options().offline && !has_part(folder, part)) return std::nullopt;
  return FetchedModel{commit, folder, {}, {}};
}

FetchedModel ModelFetcher::fetch_anew(const RepoId& id, ModelPart part, bool cached) {
  // What is in the cache serves when the hub does not answer, so one try is enough.
  const RemoteRepo repo = client_.list(id, cached ? 1 : HubClient::kTries);
  const CacheEntry entry(client_.options().cache, id);
  const fs::path snapshot = entry.snapshot(repo.commit);
  const bool whole = part != ModelPart::kTokenizer;
  FetchedModel model{repo.commit, snapshot, {}, {}};
  if (whole && !find_file(repo, kIndexFile)) weight_files(repo, "");  // refuses before any download
  const auto get = [&](const std::vector<RemoteFile>& files) {
    const Downloaded some = download(client_, id, repo.commit, files, progress_);
    model.downloaded.files += some.files;
    model.downloaded.bytes += some.bytes;
  };
  get(whole ? small_files(repo) : tokenizer_files(repo));
  if (whole) {
    const auto weights =
        weight_files(repo, find_file(repo, kWeightsFile) ? "" : read_index(snapshot));
    const bool adapter = weights.size() == 1 && weights[0].name == kAdapterFile;
    if (part == ModelPart::kWhole || adapter) {
      get(weights);
    } else {
      model.far = missing_files(client_, entry, id, repo.commit, weights);
    }
  }
  std::error_code error;
  if (!fs::is_directory(snapshot, error))
    throw input_error("{}: has no file that is needed", id.label());
  note_absent_files(entry, repo);
  entry.write_ref(id.revision, repo.commit);  // last: a name leads to what is whole
  return model;
}

std::optional<FetchedModel> ModelFetcher::fetch(const std::string& text, ModelPart part) {
  const auto id = parse_repo_id(text);
  if (!id) return std::nullopt;
  const std::lock_guard lock(mutex_);
  if (const auto it = known_.find({text, part}); it != known_.end()) return it->second;
  std::optional<FetchedModel> model = cached_model(*id, part);
  if (client_.options().offline || (model && (id->is_commit() || silent_))) return model;
  try {
    model = fetch_anew(*id, part, model.has_value());
  } catch (const HubFailure& e) {
    if (!model) throw;
    silent_ = !e.is_final();
    client_.note(fmt::format("{}; the cache's copy is used, commit {}", e.what(), model->commit));
  }
  return known_.emplace(std::pair(text, part), *model).first->second;
}

}  // namespace lewis
