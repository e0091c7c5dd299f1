// The verb pull, and what the other verbs pull before they begin.
#include "app/hub_models.h"
#include "app/run.h"
#include "base/error.h"
#include "io/hub_cache.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

class Puller {
 public:
  Puller(const HubOptions& hub, const RunContext& run)
      : fetcher_(with_cache(hub), stop_of(run), note_of(run), progress_of(run)) {}

  std::optional<PulledModel> pull(const std::string& id, ModelPart part = ModelPart::kWhole) {
    const auto model = fetcher_.fetch(id, part);
    if (!model) return std::nullopt;
    return PulledModel{id, model->commit, model->folder, model->downloaded.files,
                       model->downloaded.bytes};
  }

  // The models that a recipe names and that are ids; those that are not are left to its parser.
  std::vector<PulledModel> pull_recipe(const fs::path& file) {
    std::vector<PulledModel> pulled;
    for_named_models(file, cache(), [&](const std::string& name, ModelPart part) {
      if (auto model = pull(name, part)) pulled.push_back(std::move(*model));
    });
    return pulled;
  }

  const fs::path& cache() const { return fetcher_.client().options().cache; }

 private:
  ModelFetcher fetcher_;
};

// A recipe is named by its file; everything else that is there is no id.
bool is_file(const fs::path& name) {
  std::error_code error;
  return fs::is_regular_file(name, error);
}

bool is_there(const fs::path& name) {
  std::error_code error;
  return fs::exists(fs::symlink_status(name, error));
}

}  // namespace

PullResult pull(const PullJob& job, const RunContext& run) {
  Puller puller(job.hub, run);
  PullResult result;
  for (const std::string& name : job.names) {
    if (is_file(name)) {
      for (PulledModel& model : puller.pull_recipe(name)) result.models.push_back(std::move(model));
      continue;
    }
    auto model = puller.pull(name);
    if (!model && !is_hub_id(name))
      throw usage_error("{}: expected the id of a model, as owner/name, or a recipe's file", name);
    if (!model) {
      throw usage_error("{}: not in the hub cache {}, and HF_HUB_OFFLINE forbids to ask the hub",
                        name, with_cache(job.hub).cache.string());
    }
    result.models.push_back(std::move(*model));
  }
  return result;
}

fs::path local_model(const fs::path& name, const HubOptions& hub, const RunContext& run) {
  if (is_file(name)) {
    Puller(hub, run).pull_recipe(name);
  } else if (!is_there(name) && is_hub_id(name.string())) {
    Puller puller(hub, run);
    try {
      if (const auto model = puller.pull(name.string())) return model->folder;
    } catch (const HubFailure& e) {
      if (!is_unreached(e)) throw;
      throw usage_error("{}", words_for(name.string(), e, puller.cache()));
    }
  }
  return name;
}

}  // namespace lewis
