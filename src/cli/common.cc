#include "cli/verbs.h"

namespace lewis {

std::shared_ptr<CommonOptions> add_common_options(CLI::App& verb) {
  auto options = std::make_shared<CommonOptions>();
  verb.add_option("--threads,-j,--num-threads", options->threads, "Threads (0: one per core)");
  verb.add_flag("--quiet,-q", options->quiet, "No progress");
  verb.add_flag("--json", options->json, "Print one JSON object instead of text");
  return options;
}

}  // namespace lewis
