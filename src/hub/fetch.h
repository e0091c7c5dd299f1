// Models of the hub as folders on disk: from the cache, else downloaded into it.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "hub/download.h"

namespace lewis {

// The names of the files that are wanted, of all names of a data set's repository and the text of
// its README.md; none where no file holds data. What it throws is an error of the user's choice.
using ChooseFiles = std::function<std::vector<std::string>(const std::vector<std::string>& names,
                                                           const std::string& readme)>;

// kWithoutWeights: all but the weights of a model; an adapter has its weights.
enum class ModelPart { kWhole, kTokenizer, kWithoutWeights };

struct FetchedModel {
  std::string commit;
  std::filesystem::path folder;  // the snapshot in the cache
  Downloaded downloaded;
  std::vector<RemoteFile> far{};  // kWithoutWeights: the weights that the snapshot lacks
};

// Fetches models and data sets, each at most once.
class ModelFetcher {
 public:
  ModelFetcher(HubOptions options, StopFn stop, std::function<void(const std::string&)> note,
               ProgressFn progress);

  const HubClient& client() const { return client_; }

  // The model of an id ("owner/name@revision"). A commit that is in the cache, and anything while
  // the options say offline, needs no request. A branch is asked for its commit each time; where
  // that cannot be had, the cache's serves, with a note. Nothing when `id` can be no id, or offline
  // when the cache has no such model. Throws HubFailure and as download() and weight_files() do.
  std::optional<FetchedModel> fetch(const std::string& id, ModelPart part = ModelPart::kWhole);

  // A part of a data set, which `part` names for the notes of this object. Where the repository
  // holds no data (but a program that makes them), the hub's conversion to Parquet is fetched: its
  // branch refs/convert/parquet. The list of files is asked for each time; where that cannot be
  // had, the cache's copy serves, with a note. Returns and throws as fetch().
  std::optional<FetchedModel> fetch_data(const std::string& id, const std::string& part,
                                         const ChooseFiles& choose);

 private:
  FetchedModel fetch_data_anew(const RepoId& id, const ChooseFiles& choose, bool cached);
  FetchedModel fetch_anew(const RepoId& id, ModelPart part, bool cached);
  std::optional<FetchedModel> cached_model(const RepoId& id, ModelPart part) const;
  // What `ask` has from the hub; it is told whether there is a copy in the cache, which serves,
  // with a note, where the hub cannot be asked.
  FetchedModel anew_or_cached(const std::optional<FetchedModel>& cached,
                              const std::function<FetchedModel(bool)>& ask);

  HubClient client_;
  ProgressFn progress_;
  std::mutex mutex_;
  std::map<std::pair<std::string, ModelPart>, FetchedModel> known_;
  std::map<std::pair<std::string, std::string>, FetchedModel> known_data_;
  bool silent_ = false;  // the hub did not answer: what is in the cache is not asked for again
};

// True when a snapshot has config.json or adapter_config.json and all weights that it names.
bool is_whole_model(const std::filesystem::path& snapshot);

}  // namespace lewis
