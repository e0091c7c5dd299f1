// The verb pull, and what the other verbs pull before they begin.
#include "app/interrupts.h"
#include "app/run.h"
#include "base/error.h"
#include "base/text_file.h"
#include "hub/fetch.h"
#include "io/hub_cache.h"
#include "recipe/named_models.h"

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

  // The models that a recipe names and that are ids; those that are not are left to its parser.
  std::vector<PulledModel> pull_recipe(const fs::path& file) {
    std::vector<PulledModel> pulled;
    for (const NamedModel& named : named_models(read_text_file(file), file)) {
      try {
        const auto part = named.only_tokenizer ? ModelPart::kTokenizer : ModelPart::kWhole;
        if (auto model = pull(named.name, part)) pulled.push_back(std::move(*model));
      } catch (const HubFailure& e) {
        throw HubFailure(unreached(e) ? ExitCode::kUsage : e.code(),
                         fmt::format("{}:{}: {}", file.string(), named.line, words(named.name, e)),
                         e.is_final());
      }
    }
    return pulled;
  }

  // A model that the user names is missing, whatever the reason: a name that is mistyped reaches
  // the hub as an id, also where there is no network.
  static bool unreached(const HubFailure& e) { return !e.is_final(); }
  std::string words(const std::string& name, const HubFailure& e) const {
    if (!unreached(e)) return e.what();
    return fmt::format(
        "{}: no such folder, not in the hub cache {}, and the hub cannot be asked: {}", name,
        fetcher_.client().options().cache.string(), e.what());
  }

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
      if (!Puller::unreached(e)) throw;
      throw usage_error("{}", puller.words(name.string(), e));
    }
  }
  return name;
}

}  // namespace lewis
