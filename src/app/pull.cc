// The verb pull, and what the other verbs pull before they begin.
#include "app/evaluation_tasks.h"
#include "app/hub_models.h"
#include "app/run.h"
#include "base/error.h"
#include "eval/needed_data.h"
#include "io/gguf.h"
#include "io/hub_cache.h"
#include "text/data_set.h"

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

  // As fetch_data.
  std::optional<PulledModel> pull_data(const std::string& data, bool all_splits = false) {
    const auto set = fetch_data(fetcher_, data, all_splits);
    if (!set) return std::nullopt;
    return PulledModel{data, set->commit, set->folder, set->downloaded.files,
                       set->downloaded.bytes};
  }

  // The models and data that a recipe names and that are ids; those that are not are left to its
  // parser.
  std::vector<PulledModel> pull_recipe(const fs::path& file) {
    std::vector<PulledModel> pulled;
    for_named_models(file, cache(), [&](const std::string& name, ModelPart part) {
      if (auto model = pull(name, part)) pulled.push_back(std::move(*model));
    });
    for_named_data(file, cache(), [&](const std::string& name) {
      if (auto data = pull_data(name)) pulled.push_back(std::move(*data));
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
  for (const std::string& name : job.data) {
    auto data = puller.pull_data(name, true);
    if (!data && !is_data_set_id(data_set_part(name).folder.string()))
      throw usage_error("{}: expected the id of a data set, as owner/name", name);
    if (!data) {
      throw usage_error("{}: not in the hub cache {}, and HF_HUB_OFFLINE forbids to ask the hub",
                        name, with_cache(job.hub).cache.string());
    }
    result.models.push_back(std::move(*data));
  }
  return result;
}

fs::path local_model(const fs::path& name, const HubOptions& hub, const RunContext& run) {
  if (is_gguf_path(name)) return name;
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

namespace {

void pull_named(Puller& puller, const std::string& data) {
  try {
    puller.pull_data(data);
  } catch (const HubFailure& e) {
    if (!is_unreached(e)) throw;
    throw usage_error("{}", words_for(data, e, puller.cache()));
  }
}

}  // namespace

void pull_data(const fs::path& data, const HubOptions& hub, const RunContext& run) {
  const fs::path name = data_set_part(data).folder;
  if (data.empty() || is_there(data) || is_there(name) || !is_data_set_id(name.string())) return;
  Puller puller(hub, run);
  pull_named(puller, data.string());
}

void pull_data(const EvaluateJob& job, const HubOptions& hub, const RunContext& run) {
  std::vector<std::string> names;
  for (const std::string& task : job.tasks) {
    for (std::string& name : data_to_fetch(parse_task(task, job.settings)))
      names.push_back(std::move(name));
  }
  if (names.empty()) return;
  Puller puller(hub, run);
  for (const std::string& name : names) pull_named(puller, name);
}

}  // namespace lewis
