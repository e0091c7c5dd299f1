// mpirun -np N lewis-mpi refine-worker RECIPE OUT: the refinement of a merge, by N processes.
#include "cli/mpi/refine_worker.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "app/refine_together.h"
#include "app/refinement.h"
#include "base/build.h"
#include "base/current_error.h"
#include "base/error.h"
#include "cli/mpi/mpi_ranks.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

struct RefineWorkerArguments {
  std::filesystem::path recipe;
  UnknownKeys unknown = UnknownKeys::kRefused;
  MergeJob job;
  std::string max_memory;
  std::shared_ptr<CommonOptions> common;
};

// Processes of another build, or with other instructions, would compute other bits.
void check_alike(const Communicator& ranks) {
  const std::string mine = fmt::format("{}, {}", version_and_build(), instruction_set());
  std::array<char, 256> first{};
  std::copy_n(mine.begin(), std::min(mine.size(), first.size() - 1), first.begin());
  ranks.broadcast(std::as_writable_bytes(std::span(first)), 0);
  if (mine.substr(0, first.size() - 1) == first.data()) return;
  throw usage_error("process {} is lewis {}, the first one is lewis {}: use nodes of one kind",
                    ranks.rank(), mine, first.data());
}

void refine(RefineWorkerArguments& o, const Communicator& ranks) {
  check_alike(ranks);
  o.job.recipe = open_recipe(o.recipe, o.unknown);
  if (!o.max_memory.empty()) o.job.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  o.job.resume = true;
  ProgressPrinter progress(o.common->quiet || !ranks.is_first());
  RunContext run = run_context(*o.common, progress);
  if (!ranks.is_first()) run.notice = [](const Notice&) {};
  const Refinement refined = refine_together(o.job, ranks, run);
  if (!ranks.is_first() || refined.passes.empty()) return;
  const RefineReport& report = refined.passes.back();
  for (const std::string& line : describe(refined)) write_out("{}\n", line);
  write_out(
      "{} processes, {} blocks refined now, {} taken over\n`lewis-mpi merge {} {} --resume` writes "
      "the model\n",
      ranks.size(), report.blocks.size() - static_cast<size_t>(report.resumed), report.resumed,
      o.recipe.string(), o.job.out.string());
}

// The other processes wait for one that fails, so it ends them.
void run_refine_worker(RefineWorkerArguments& o) {
  const MpiRanks ranks;
  try {
    refine(o, ranks);
  } catch (...) {
    const Error error = current_error();
    write_err("lewis-mpi: error: process {} of {}: {}\n", ranks.rank(), ranks.size(), error.what());
    ranks.end_all(static_cast<int>(error.code()));
  }
}

}  // namespace

void add_refine_worker_verb(CLI::App& app) {
  auto o = std::make_shared<RefineWorkerArguments>();
  CLI::App* verb = app.add_subcommand(
      "refine-worker", "Refine a merge together with the other processes of an mpirun");
  verb->add_option("RECIPE", o->recipe, "Recipe with lewis.refine")->required();
  verb->add_option("OUT", o->job.out, "Folder of the merged model, which lewis-mpi merge writes")
      ->required();
  verb->add_option("--random-seed,--seed", o->job.seed, "Seed of random masks (dare)");
  verb->add_option("--cache", o->job.guidance.cache,
                   "Folder of the statistics' cache, which all processes see");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory that each process may use (K, M, B: decimal)");
  add_compute_option(*verb, o->job.guidance.compute);
  add_lenient_option(*verb, o->unknown);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_refine_worker(*o); });
}

}  // namespace lewis
