// lewis verify OUT: compares the bytes of a merged model with its manifest.
#include <fmt/format.h>

#include "base/json.h"
#include "base/threads.h"
#include "cli/verbs.h"
#include "io/manifest.h"

namespace lewis {

void add_verify_verb(CLI::App& app) {
  struct VerifyArguments {
    std::filesystem::path folder;
    std::shared_ptr<CommonOptions> common;
  };
  auto o = std::make_shared<VerifyArguments>();
  CLI::App* verb =
      app.add_subcommand("verify", "Check a merged model's bytes against its manifest");
  verb->add_option("OUT", o->folder, "Folder that lewis merge has written")->required();
  o->common = add_common_options(*verb);
  verb->callback([o] {
    Threads threads(o->common->threads);
    ProgressPrinter progress(o->common->quiet);
    const uint64_t bytes = verify_folder(o->folder, threads, interruptible(progress));
    if (o->common->json) {
      write_json(Json{{"folder", o->folder.string()}, {"verified_bytes", bytes}});
    } else {
      write_out("{}: {} verified, every byte is what was written\n", o->folder.string(),
                human_bytes(bytes));
    }
  });
}

}  // namespace lewis
