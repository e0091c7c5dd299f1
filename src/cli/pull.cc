// lewis pull ID...: models of the hub into its cache.
#include <fmt/format.h>

#include "base/error.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

void print(const PullResult& result) {
  for (const PulledModel& m : result.models) {
    write_out("{}: {} ({}), {}\n", m.id, m.folder.string(), m.commit.substr(0, 12),
              m.files > 0 ? fmt::format("{} files, {} downloaded", m.files, human_bytes(m.bytes))
                          : "complete in the cache");
  }
}

}  // namespace

void add_pull_verb(CLI::App& app) {
  struct PullArguments {
    std::vector<std::string> names, datasets;
    std::string config, split;
    std::shared_ptr<CommonOptions> common;
  };
  auto o = std::make_shared<PullArguments>();
  CLI::App* verb =
      app.add_subcommand("pull", "Download models and data sets of the hub into its cache");
  verb->add_option("ID|RECIPE", o->names,
                   "owner/name or owner/name@revision; a recipe's file: all models and data sets "
                   "that it names");
  verb->add_option("--dataset", o->datasets, "owner/name of a data set; may be repeated")
      ->allow_extra_args(false);
  verb->add_option("--config", o->config, "Of the data sets (default: `default`, or the only one)");
  verb->add_option("--split", o->split, "Of the data sets (default: all)");
  o->common = add_common_options(*verb);
  verb->callback([o] {
    if (o->names.empty() && o->datasets.empty())
      throw usage_error("lewis pull: name a model, a recipe's file, or --dataset owner/name");
    if (o->datasets.empty() && !(o->config.empty() && o->split.empty()))
      throw usage_error("--config and --split are of a data set: name one with --dataset");
    PullJob job;
    job.names = o->names;
    std::string part = o->config.empty() ? o->split : o->config + "/" + o->split;
    if (!part.empty()) part.insert(0, "#");
    for (const std::string& id : o->datasets) job.data.push_back(id + part);
    ProgressPrinter progress(o->common->quiet);
    const PullResult result = pull(job, run_context(*o->common, progress));
    o->common->json ? write_json_text(json_text(result)) : print(result);
  });
}

}  // namespace lewis
