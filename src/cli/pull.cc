// lewis pull ID...: models of the hub into its cache.
#include <fmt/format.h>

#include "base/json.h"
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

Json to_json(const PullResult& result) {
  Json models = Json::array();
  for (const PulledModel& m : result.models) {
    models.push_back({{"id", m.id},
                      {"commit", m.commit},
                      {"folder", m.folder.string()},
                      {"files", m.files},
                      {"bytes", m.bytes}});
  }
  return {{"models", models}};
}

}  // namespace

void add_pull_verb(CLI::App& app) {
  struct PullArguments {
    std::vector<std::string> names;
    std::shared_ptr<CommonOptions> common;
  };
  auto o = std::make_shared<PullArguments>();
  CLI::App* verb = app.add_subcommand("pull", "Download models of the hub into its cache");
  verb->add_option("ID|RECIPE", o->names,
                   "owner/name or owner/name@revision; a recipe's file: all models that it names")
      ->required();
  o->common = add_common_options(*verb);
  verb->callback([o] {
    ProgressPrinter progress(o->common->quiet);
    const PullResult result = pull({.names = o->names}, run_context(*o->common, progress));
    o->common->json ? write_json(to_json(result)) : print(result);
  });
}

}  // namespace lewis
