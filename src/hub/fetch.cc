#include "hub/fetch.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "base/model_files.h"
#include "base/text_file.h"
#include "hub/needed_files.h"
#include "io/hub_cache.h"

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
  if (is_there(snapshot / "adapter_config.json") &&
      std::ranges::any_of(kAdapterFiles, [&](auto file) { return is_there(snapshot / file); }))
    return true;
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
    const bool adapter = weights.size() == 1 &&
                         std::ranges::find(kAdapterFiles, weights[0].name) != kAdapterFiles.end();
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

FetchedModel ModelFetcher::anew_or_cached(const std::optional<FetchedModel>& cached,
                                          const std::function<FetchedModel(bool)>& ask) {
  try {
    return ask(cached.has_value());
  } catch (const HubFailure& e) {
    if (!cached) throw;
    silent_ = !e.is_final();
    client_.note(fmt::format("{}; the cache's copy is used, commit {}", e.what(), cached->commit));
    return *cached;
  }
}

std::optional<FetchedModel> ModelFetcher::fetch(const std::string& text, ModelPart part) {
  const auto id = parse_repo_id(text);
  if (!id) return std::nullopt;
  const std::lock_guard lock(mutex_);
  if (const auto it = known_.find({text, part}); it != known_.end()) return it->second;
  const std::optional<FetchedModel> model = cached_model(*id, part);
  if (client_.options().offline || (model && (id->is_commit() || silent_))) return model;
  const auto ask = [&](bool cached) { return fetch_anew(*id, part, cached); };
  return known_.emplace(std::pair(text, part), anew_or_cached(model, ask)).first->second;
}

namespace {

std::vector<std::string> names_of(const RemoteRepo& repo) {
  std::vector<std::string> names;
  for (const RemoteFile& file : repo.files) names.push_back(file.name);
  return names;
}

[[noreturn]] void refuse_without_data(const RemoteRepo& repo, const std::string& why) {
  std::string all;
  for (size_t i = 0; i < repo.files.size() && i < 5; ++i)
    all += (i ? ", " : "") + repo.files[i].name;
  throw input_error(
      "{}: no file of it holds data (there are: {}), and lewis runs no program that "
      "would make them; a converted copy is not there either ({})",
      repo.id.label(), all.empty() ? "none" : all, why);
}

}  // namespace

FetchedModel ModelFetcher::fetch_data_anew(const RepoId& id, const ChooseFiles& choose,
                                           bool cached) {
  RemoteRepo repo = client_.list(id, cached ? 1 : HubClient::kTries);
  FetchedModel data;
  const auto get = [&](const std::vector<RemoteFile>& files) {
    const Downloaded some = download(client_, repo.id, repo.commit, files, progress_);
    data.downloaded.files += some.files;
    data.downloaded.bytes += some.bytes;
  };
  const CacheEntry entry(client_.options().cache, id);
  const auto wanted = [&] {
    std::string readme;
    if (const RemoteFile* file = find_file(repo, "README.md")) {
      get({*file});
      readme = read_text_file(entry.snapshot(repo.commit) / "README.md");
    }
    return choose(names_of(repo), readme);
  };
  std::vector<std::string> names = wanted();
  if (names.empty() && id.revision == "main") {
    RepoId converted = id;
    converted.revision = kConvertedRevision;
    try {
      RemoteRepo other = client_.list(converted);
      std::swap(repo, other);
      client_.note(
          fmt::format("{}: no file of it holds data: the hub's conversion to Parquet is "
                      "taken, {}",
                      id.label(), repo.id.label()));
    } catch (const HubFailure& e) {
      if (!e.is_final()) throw;
      refuse_without_data(repo, e.what());
    }
    names = wanted();
  }
  if (names.empty()) refuse_without_data(repo, "no " + std::string(kConvertedRevision));
  std::vector<RemoteFile> files;
  for (const std::string& name : names) {
    if (const RemoteFile* file = find_file(repo, name)) files.push_back(*file);
  }
  get(files);
  entry.write_ref(repo.id.revision, repo.commit);
  data.commit = repo.commit;
  data.folder = entry.snapshot(repo.commit);
  return data;
}

std::optional<FetchedModel> ModelFetcher::fetch_data(const std::string& text,
                                                     const std::string& part,
                                                     const ChooseFiles& choose) {
  const auto id = parse_repo_id(text, RepoId::Kind::kDataset);
  if (!id) return std::nullopt;
  const std::lock_guard lock(mutex_);
  if (const auto it = known_data_.find({text, part}); it != known_data_.end()) return it->second;
  const CacheEntry entry(client_.options().cache, *id);
  std::optional<FetchedModel> data;
  for (const std::string& revision : {id->revision, std::string(kConvertedRevision)}) {
    const std::string commit = entry.commit_of(revision);
    const fs::path folder = entry.snapshot(commit.empty() ? revision : commit);
    std::error_code error;
    const bool plain = !commit.empty() || id->is_commit();
    if (plain && fs::is_directory(folder, error)) data = FetchedModel{commit, folder, {}};
    if (data || id->revision != "main") break;
  }
  if (client_.options().offline || (data && silent_)) return data;
  const auto ask = [&](bool cached) { return fetch_data_anew(*id, choose, cached); };
  return known_data_.emplace(std::pair(text, part), anew_or_cached(data, ask)).first->second;
}

}  // namespace lewis
