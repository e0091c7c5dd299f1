// The verbs of the command line, one file per verb. Each function adds a subcommand with its
// options and returns; the subcommand's callback fills a job, calls the facade and prints the
// result.
#pragma once

#include <lewis/lewis.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "cli/terminal.h"

namespace lewis {

// Options that every verb has.
struct CommonOptions {
  size_t threads = 0;  // 0: one per core
  bool quiet = false;
  bool json = false;
};
std::shared_ptr<CommonOptions> add_common_options(CLI::App& verb);

// Adds --lenient: what becomes of a recipe's unknown keys. `unknown` must live as long as the verb.
void add_lenient_option(CLI::App& verb, UnknownKeys& unknown);

// The program's flag, which SIGINT and SIGTERM set (main).
std::atomic<bool>& interrupt_flag();

// The context of a verb with these options. `progress` must outlive the context.
RunContext run_context(const CommonOptions& options, ProgressPrinter& progress);

// The same progress for functions below the facade: it throws once the flag is set.
ProgressFn interruptible(ProgressPrinter& progress);

// A model or recipe that the command line names: an id of the hub becomes its folder, and what a
// recipe names is pulled (local_model of lewis/hub.h).
void make_local(std::filesystem::path& model, const CommonOptions& options);

// The same for data: the id of a data set is pulled, and found in the cache from then on.
void make_data_local(const std::filesystem::path& data, const CommonOptions& options);

// Adds --compute; `auto` becomes the type that it stands for. `type` stays as it is where the
// option is not given. The type must live as long as the verb.
void add_compute_option(CLI::App& verb, ComputeType& type);

// The options of --stream; `max_disk`: the text of --max-disk, or "".
StreamOptions stream_options(const std::string& max_disk = {});
// "5B", "500M", "1e9", "100K": mergekit's suffixes are decimal. Error(kUsage) names the option.
uint64_t parse_bytes(const std::string& text, std::string_view option);

// Every whole number of the command line counts something: a negative one, which CLI11 may take for
// a huge one, and an empty text are refused. Call it when all verbs have been added.
void refuse_negative_counts(CLI::App& app);

void add_calibrate_verb(CLI::App& app);
void add_plan_verb(CLI::App& app);
void add_merge_verb(CLI::App& app);
void add_apply_verb(CLI::App& app);
void add_eval_verb(CLI::App& app);
void add_tune_verb(CLI::App& app);
void add_check_verb(CLI::App& app);
void add_convert_verb(CLI::App& app);
void add_diff_verb(CLI::App& app);
void add_extract_verb(CLI::App& app);
void add_inspect_verb(CLI::App& app);
void add_verify_verb(CLI::App& app);
void add_status_verb(CLI::App& app);
void add_slurm_verb(CLI::App& app);
void add_report_verb(CLI::App& app);
void add_pull_verb(CLI::App& app);
void add_push_verb(CLI::App& app);
void add_new_verb(CLI::App& app);
void add_completion_verb(CLI::App& app);  // and what the shells' scripts ask
void add_man_verb(CLI::App& app);

}  // namespace lewis
