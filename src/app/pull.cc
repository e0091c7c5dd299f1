// The verb pull, and what the other verbs pull before they begin.
#include "app/evaluation_tasks.h"
#include "app/interrupts.h"
#include "app/run.h"
#include "base/error.h"
#include "base/text_file.h"
#include "eval/needed_data.h"
#include "hub/fetch.h"
#include "io/hub_cache.h"
#include "recipe/named_models.h"
#include "text/data_set.h"
#include "text/data_set_listing.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

HubOptions with_cache(HubOptions hub) {
  if (hub.cache.empty()) hub.cache = hub_cache_folder();
  return hub;
}

// A fetcher whose waits end when the caller wants an end, and which tells what it notices.
class Puller {
 public:
  Puller(const HubOptions& hub, const RunContext& run)
      : fetcher_(
            with_cache(hub), [flag = run.interrupted] { return flag && *flag; },
            [notice = run.notice](const std::string& line) {
              if (notice) notice({true, "lewis: note: " + line});
            },
            [flag = run.interrupted, next = run.progress](const Progress& p) {
              if (flag) check_interrupt(*flag);
              if (next) next(p);
            }) {}

  std::optional<PulledModel> pull(const std::string& id, ModelPart part = ModelPart::kWhole) {
    const auto model = fetcher_.fetch(id, part);
    if (!model) return std::nullopt;
    return PulledModel{id, model->commit, model->folder, model->downloaded.files,
                       model->downloaded.bytes};
  }

  // A part of a data set: "ID", "ID#SPLIT", "ID#CONFIG/SPLIT". `all_splits`: see names_of_part.
  std::optional<PulledModel> pull_data(const std::string& data, bool all_splits = false) {
    const DataSetPart part = data_set_part(data);
    const std::string id = part.folder.string();
    if (!is_data_set_id(id)) return std::nullopt;
    const auto choose = [&](const std::vector<std::string>& names, const std::string& readme) {
      return names_of_part({id, names, readme}, part.config, part.split, all_splits);
    };
    const auto set = fetcher_.fetch_data(id, data + (all_splits ? "#" : ""), choose);
    if (!set) return std::nullopt;
    return PulledModel{data, set->commit, set->folder, set->downloaded.files,
                       set->downloaded.bytes};
  }

  // The models and data that a recipe names and that are ids; those that are not are left to its
  // parser.
  std::vector<PulledModel> pull_recipe(const fs::path& file) {
    std::vector<PulledModel> pulled;
    const std::string text = read_text_file(file);
    for (const NamedModel& named : named_models(text, file)) {
      const auto part = named.only_tokenizer ? ModelPart::kTokenizer : ModelPart::kWhole;
      at_line(file, named.line, named.name, [&] {
        if (auto model = pull(named.name, part)) pulled.push_back(std::move(*model));
      });
    }
    for (const NamedData& named : named_data(text, file)) {
      at_line(file, named.line, named.name, [&] {
        if (auto data = pull_data(named.name)) pulled.push_back(std::move(*data));
      });
    }
    return pulled;
  }

  // A model that the user names is missing, whatever the reason: a name that is mistyped reaches
  // the hub as an id, also where there is no network.
  static bool unreached(const HubFailure& e) { return !e.is_final(); }
  std::string words(const std::string& name, const HubFailure& e) const {
    if (!unreached(e)) return e.what();
    return fmt::format(
        "{}: no such folder or file, not in the hub cache {}, and the hub cannot be asked: {}",
        name, fetcher_.client().options().cache.string(), e.what());
  }

 private:
  // Runs `work`, whose errors name the line of the recipe.
  template <typename F>
  void at_line(const fs::path& file, int line, const std::string& name, const F& work) const {
    try {
      work();
    } catch (const HubFailure& e) {
      throw HubFailure(unreached(e) ? ExitCode::kUsage : e.code(),
                       fmt::format("{}:{}: {}", file.string(), line, words(name, e)), e.is_final());
    } catch (const Error& e) {
      if (e.code() != ExitCode::kInput) throw;
      throw input_error("{}:{}: {}", file.string(), line, e.what());
    }
  }

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
  if (is_file(name)) {
    Puller(hub, run).pull_recipe(name);
  } else if (!is_there(name) && is_hub_id(name.string())) {
    Puller puller(hub, run);
    try {
      if (const auto model = puller.pull(name.string())) return model->folder;
    } catch (const HubFailure& e) {
      if (!Puller::unreached(e)) throw;
      throw usage_error("{}", puller.words(name.string(), e));
    }
  }
  return name;
}

namespace {

void pull_named(Puller& puller, const std::string& data) {
  try {
    puller.pull_data(data);
  } catch (const HubFailure& e) {
    if (!Puller::unreached(e)) throw;
    throw usage_error("{}", puller.words(data, e));
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
