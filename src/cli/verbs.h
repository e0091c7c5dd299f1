// The verbs of the command line, one file each. Each adds its subcommand with options and returns;
// the work is done in the subcommand's callback.
#pragma once

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "base/threads.h"
#include "cli/terminal.h"
#include "compute/backend.h"

namespace lewis {

// Options that every verb has.
struct CommonOptions {
  size_t threads = 0;  // 0: one per core
  bool quiet = false;
  bool json = false;
};
std::shared_ptr<CommonOptions> add_common_options(CLI::App& verb);

// --compute, with auto as what it chose; untouched where the option is not given. The type must
// live as long as the verb.
void add_compute_option(CLI::App& verb, ComputeType& type);

// "5B", "500M", "1e9", "100K": mergekit's suffixes are decimal. Error(kUsage) names the option.
uint64_t parse_bytes(const std::string& text, std::string_view option);

void add_calibrate_verb(CLI::App& app);
void add_plan_verb(CLI::App& app);
void add_merge_verb(CLI::App& app);
void add_eval_verb(CLI::App& app);
void add_tune_verb(CLI::App& app);
void add_check_verb(CLI::App& app);
void add_diff_verb(CLI::App& app);
void add_inspect_verb(CLI::App& app);
void add_verify_verb(CLI::App& app);
void add_report_verb(CLI::App& app);

}  // namespace lewis
