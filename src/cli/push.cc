// lewis push OUT owner/name: a merged model as a repository of the hub.
#include <fmt/format.h>

#include "base/error.h"
#include "cli/verbs.h"

namespace lewis {

void add_push_verb(CLI::App& app) {
  struct PushArguments {
    PushJob job;
    std::string revision;
    std::shared_ptr<CommonOptions> common;
  };
  auto o = std::make_shared<PushArguments>();
  CLI::App* verb = app.add_subcommand("push", "Upload a merged model to the hub");
  verb->add_option("OUT", o->job.out, "Folder that lewis merge has written")->required();
  verb->add_option("ID", o->job.id, "owner/name; it is created if it does not exist")->required();
  verb->add_flag("--private", o->job.is_private, "Create it as one that only its owner reads");
  verb->add_option("--revision", o->revision, "Branch, created if it does not exist (main)");
  verb->add_flag("--force", o->job.force, "Also when a text in OUT names a folder of this machine");
  o->common = add_common_options(*verb);
  verb->callback([o] {
    PushJob job = o->job;
    if (!o->revision.empty()) job.id += "@" + o->revision;
    ProgressPrinter progress(o->common->quiet);
    const PushResult result = push(job, run_context(*o->common, progress));
    if (o->common->json) {
      write_json_text(json_text(result));
    } else {
      write_out("{}: {} files, {} uploaded, commit {}\n", result.url, result.files,
                human_bytes(result.bytes), result.commit);
    }
  });
}

}  // namespace lewis
