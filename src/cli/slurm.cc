// lewis slurm RECIPE OUT --nodes N: writes, and submits, the jobs of Slurm that merge in parts.
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "app/worker_plan.h"
#include "base/build.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/verbs.h"
#include "compute/backend.h"
#include "io/file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

struct SlurmArguments {
  fs::path recipe, script, cache;
  UnknownKeys unknown = UnknownKeys::kRefused;
  MergeJob job;
  uint64_t nodes = 0, cpus = 8;
  std::string partition, account, shard_size, max_memory, disk_speed;
  std::vector<std::string> sbatch, tasks;
  bool submit = false;
  std::shared_ptr<CommonOptions> common;
};

// ---- what a job asks for ----

// In MiB, with room for the program's libraries, for page tables and for an estimate that is low.
uint64_t memory_limit(uint64_t bytes) {
  constexpr double kRoom = 1.25, kFixed = 512, kStep = 256;
  const double mib = static_cast<double>(bytes) / (1 << 20) * kRoom + kFixed;
  return static_cast<uint64_t>(std::ceil(mib / kStep) * kStep);
}

// In minutes: other jobs use the same disks.
uint64_t time_limit(double seconds) {
  constexpr double kRoom = 4, kFixed = 15;
  return static_cast<uint64_t>(std::ceil(seconds / 60 * kRoom + kFixed));
}

// ---- the script ----

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string words(const std::vector<std::string>& all) {
  std::string text;
  for (const std::string& word : all) text += " " + quoted(word);
  return text;
}

fs::path beside(const fs::path& out, std::string_view suffix) {
  const fs::path normal = fs::absolute(out / "").lexically_normal().parent_path();
  return normal.string() + std::string(suffix);
}

// One job of the chain.
struct ChainJob {
  std::string step, after;  // "afterok", "afterany"
  uint64_t parts = 0;       // 0: no array
  uint64_t mib = 0, minutes = 0;
};

const WorkerStep* step_of(const WorkerPlan& plan, std::string_view name) {
  const auto step = std::ranges::find(plan.steps, name, &WorkerStep::name);
  return step == plan.steps.end() ? nullptr : &*step;
}

// What a worker may use in the end, for a step of which nothing is known.
std::vector<ChainJob> chain_of(const WorkerPlan& plan, bool guided, bool evaluates) {
  std::vector<ChainJob> jobs;
  const WorkerStep &merge = *step_of(plan, "merge"), &finish = *step_of(plan, "finish");
  const WorkerStep* calibrate = step_of(plan, "calibrate");
  if (calibrate) {
    jobs.push_back({"calibrate", "afterok", calibrate->parts, memory_limit(calibrate->memory),
                    time_limit(calibrate->seconds)});
  }
  if (guided) {
    jobs.push_back({"plan", "afterok", 0,
                    memory_limit(std::max(merge.memory, calibrate ? calibrate->memory : 0)),
                    time_limit(merge.seconds_alone)});
  }
  // The last worker checks the hashes. Every one may have to read the weights for the densities,
  // where the plan's importances are not all that they need.
  jobs.push_back({"merge", "afterok", merge.parts, memory_limit(merge.memory),
                  time_limit(merge.seconds + finish.seconds + (guided ? merge.seconds_alone : 0))});
  jobs.push_back(
      {"finish", "afterany", 0, memory_limit(finish.memory), time_limit(finish.seconds)});
  if (evaluates) {
    const uint64_t memory = memory_limit(plan.bytes_written);
    jobs.push_back({"eval", "afterok", plan.workers, memory, 24 * 60});
    jobs.push_back({"results", "afterok", 0, memory, time_limit(finish.seconds)});
  }
  return jobs;
}

std::string header(const SlurmArguments& o, const WorkerPlan& plan) {
  return fmt::format(
      "#!/bin/bash\n"
      "# Merges a recipe in parts, as jobs of Slurm. Written by `lewis slurm` of lewis {}.\n"
      "#\n"
      "#   bash THIS_FILE          submits the chain of jobs; what is done is taken over, so that\n"
      "#                           after a failure it can be submitted again\n"
      "#   bash THIS_FILE STEP     runs one step here\n"
      "#   lewis status OUT        says how far the merge is; squeue --me shows the jobs\n"
      "#\n"
      "# Memory and time are those of a dry run with room above them: {} workers that each read\n"
      "# {}/s and write {}/s ({}).\n"
      "set -euo pipefail\n",
      version_and_build(), o.nodes, human_bytes(static_cast<uint64_t>(plan.read_speed)),
      human_bytes(static_cast<uint64_t>(plan.write_speed)), plan.is_stated ? "stated" : "measured");
}

// The options that decide the bytes are the same in every step.
std::string steps_text(const SlurmArguments& o) {
  std::vector<std::string> common = {
      "--cache",   o.cache.string(),
      "--compute", std::string(compute_type_name(o.job.guidance.compute)),
      "--threads", std::to_string(o.cpus)};
  if (o.unknown == UnknownKeys::kNoted) common.push_back("--lenient");
  if (!o.max_memory.empty()) common.insert(common.end(), {"--max-memory", o.max_memory});
  std::vector<std::string> merge = common;
  if (!o.shard_size.empty()) merge.insert(merge.end(), {"--out-shard-size", o.shard_size});
  if (o.job.seed != 0) merge.insert(merge.end(), {"--seed", std::to_string(o.job.seed)});
  if (o.job.force) merge.push_back("--force");
  if (o.job.no_guidance) merge.push_back("--no-guidance");
  std::vector<std::string> eval(common.begin() + 2, common.begin() + 6);  // without the cache
  for (const std::string& task : o.tasks) eval.insert(eval.end(), {"--task", task});
  return fmt::format(
      "case ${{1-submit}} in\n"
      "calibrate) exec \"$lewis\" calibrate \"$recipe\" --part auto{} ;;\n"
      "plan)\n"
      "  \"$lewis\" calibrate \"$recipe\" --finish{}\n"
      "  exec \"$lewis\" plan \"$recipe\" -o \"$out.plan.yml\"{} ;;\n"
      "merge) exec \"$lewis\" merge \"$recipe\" \"$out\" --part auto{} ;;\n"
      "finish) exec \"$lewis\" merge \"$recipe\" \"$out\" --finish{} ;;\n"
      "eval) exec \"$lewis\" eval \"$out\" --output-path \"$out.eval\" --part auto{} ;;\n"
      "results) exec \"$lewis\" eval \"$out\" --output-path \"$out.eval\" --finish{} ;;\n"
      "submit) ;;\n"
      "*) echo \"$0: expected a step, or nothing\" >&2; exit 2 ;;\n"
      "esac\n",
      words(common), words(common), words(common), words(merge), words(merge), words(eval),
      words(eval));
}

std::string submit_text(const SlurmArguments& o, const std::vector<ChainJob>& jobs) {
  std::vector<std::string> more = o.sbatch;
  if (!o.partition.empty()) more.insert(more.begin(), "--partition=" + o.partition);
  if (!o.account.empty()) more.insert(more.begin(), "--account=" + o.account);
  std::string text = fmt::format(
      "command -v sbatch >/dev/null || {{ echo \"$0: sbatch is not here\" >&2; exit 2; }}\n"
      "mkdir -p \"$logs\"\n"
      "job() {{  # STEP LOG OPTIONS...\n"
      "  local step=$1 log=$2\n"
      "  shift 2\n"
      "  sbatch --parsable --job-name=\"lewis-$step\" --nodes=1 --ntasks=1 --cpus-per-task={} \\\n"
      "    --requeue --open-mode=append --kill-on-invalid-dep=yes "
      "--output=\"$logs/$step-$log.log\" \\\n"
      "   {} \"$@\" \"$script\" \"$step\" | cut -d ';' -f 1\n"
      "}}\n",
      o.cpus, words(more));
  std::string before;
  for (const ChainJob& job : jobs) {
    const std::string array = job.parts > 0 ? fmt::format(" --array=0-{}", job.parts - 1) : "";
    const std::string after =
        before.empty() ? "" : fmt::format(" --dependency=\"{}:${}\"", job.after, before);
    text += fmt::format("{0}=$(job {0} {1}{2}{3} --mem={4}M --time={5})\n", job.step,
                        job.parts > 0 ? "%A_%a" : "%A", array, after, job.mib, job.minutes);
    text += fmt::format("echo \"{0}: job ${0}\"\n", job.step);
    before = job.step;
  }
  return text + "echo \"lewis status $out says how far it is; logs are in $logs\"\n";
}

fs::path own_program() {
  std::error_code error;
  const fs::path path = fs::read_symlink("/proc/self/exe", error);
  return error ? "lewis" : path;
}

std::string script_text(const SlurmArguments& o, const WorkerPlan& plan,
                        const std::vector<ChainJob>& jobs) {
  return header(o, plan) +
         fmt::format(
             "cd {}  # the recipe's own paths may begin here\n"
             "lewis={}\nrecipe={}\nout={}\nlogs={}\nscript={}\n",
             quoted(fs::current_path().string()), quoted(own_program().string()),
             quoted(fs::absolute(o.recipe).string()), quoted(beside(o.job.out, "").string()),
             quoted(beside(o.job.out, ".logs").string()), quoted(fs::absolute(o.script).string())) +
         steps_text(o) + submit_text(o, jobs);
}

// ---- the verb ----

// Runs the script. What it prints goes to standard error where standard output has JSON.
void submit(const fs::path& script, bool json) {
  std::string shell = "bash", file = script.string();
  char* arguments[] = {shell.data(), file.data(), nullptr};
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  if (json) ::posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, "bash", &files, nullptr, arguments, ::environ);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) throw failed_error("{}: cannot be run by bash: {}", file, std::strerror(error));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    throw failed_error("{}: the jobs were not all submitted; what sbatch said stands above", file);
  }
}

bool is_guided(const MergeJob& job) {
  const auto& lewis = job.recipe->lewis;
  return lewis && !lewis->calibration.empty() && !job.no_guidance;
}

void fill(SlurmArguments& o) {
  if (o.nodes == 0) throw usage_error("--nodes: expected 1 or more");
  if (o.cpus == 0) throw usage_error("--cpus: expected 1 or more");
  for (const std::string& text : {o.partition, o.account}) {
    if (text.find_first_of(" \n\t") != std::string::npos)
      throw usage_error("'{}': expected a name without blanks", text);
  }
  o.job.recipe = open_recipe(o.recipe, o.unknown);
  if (!o.shard_size.empty()) o.job.shard_bytes = parse_bytes(o.shard_size, "--out-shard-size");
  if (!o.max_memory.empty()) o.job.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  const fs::path& cache = o.job.guidance.cache;
  if (!cache.empty()) o.cache = fs::absolute(cache);
  if (cache.empty() && is_guided(o.job))
    throw usage_error("--cache: expected a folder that all nodes see, for the statistics");
  if (o.script.empty()) o.script = beside(o.job.out, ".slurm.sh");
}

void print(const SlurmArguments& o, const std::vector<ChainJob>& jobs) {
  write_out("{}\n", o.script.string());
  for (const ChainJob& job : jobs) {
    write_out("  {:<10} {:>5} {} {:>8} MiB, at most {} minutes\n", job.step,
              std::max<uint64_t>(1, job.parts), job.parts > 1 ? "tasks of" : "task of ", job.mib,
              job.minutes);
  }
  if (!o.submit) write_out("`bash {}` submits them\n", o.script.string());
}

void run_slurm(SlurmArguments& o) {
  fill(o);
  ProgressPrinter progress(o.common->quiet);
  const RunContext run = run_context(*o.common, progress);
  const uint64_t speed = o.disk_speed.empty() ? 0 : parse_bytes(o.disk_speed, "--disk-speed");
  const WorkerPlan plan = plan_workers(o.job, o.nodes, speed, run);
  if (plan.shards < o.nodes) {
    write_err(
        "lewis: note: the merge has {} shard{}: only so many nodes have work; "
        "--out-shard-size {} makes enough of them\n",
        plan.shards, plan.shards == 1 ? "" : "s", plan.shard_bytes_for_all);
  }
  const std::vector<ChainJob> jobs = chain_of(plan, is_guided(o.job), !o.tasks.empty());
  write_file_durably(o.script, script_text(o, plan, jobs));
  if (o.common->json) {
    Json list = Json::array();
    for (const ChainJob& job : jobs) {
      list.push_back({{"step", job.step},
                      {"tasks", std::max<uint64_t>(1, job.parts)},
                      {"memory_mib", job.mib},
                      {"minutes", job.minutes}});
    }
    write_json(Json{{"script", o.script.string()}, {"jobs", list}});
  } else {
    print(o, jobs);
  }
  if (o.submit) submit(o.script, o.common->json);
}

}  // namespace

void add_slurm_verb(CLI::App& app) {
  auto o = std::make_shared<SlurmArguments>();
  CLI::App* verb =
      app.add_subcommand("slurm", "Write, or submit, jobs of Slurm that merge in parts");
  verb->add_option("RECIPE", o->recipe, "mergekit recipe, with a lewis: section for guidance")
      ->required();
  verb->add_option("OUT", o->job.out, "Folder of the merged model, which all nodes see")
      ->required();
  verb->add_option("--nodes", o->nodes, "Tasks that work at the same time, a node each at most")
      ->required();
  verb->add_option("--partition", o->partition, "Partition of the cluster; its default without it");
  verb->add_option("--account", o->account, "Account that the jobs are charged to");
  verb->add_option("--cpus", o->cpus, "Cores of each task; default 8");
  verb->add_option("--sbatch", o->sbatch,
                   "One more option of sbatch, as in --sbatch=--qos=low; "
                   "may be repeated")
      ->allow_extra_args(false);
  verb->add_flag("--submit", o->submit, "Submit the jobs now");
  verb->add_option("--script", o->script, "File of the script; default OUT.slurm.sh");
  verb->add_option("--eval-task", o->tasks,
                   "Score the merge in the end (lewis eval --task); may be "
                   "repeated")
      ->allow_extra_args(false);
  verb->add_flag("--force", o->job.force, "Replace OUT if it exists");
  verb->add_flag("--no-guidance", o->job.no_guidance,
                 "Ignore the lewis: section: densities as written");
  verb->add_option("--out-shard-size", o->shard_size,
                   "Largest shard in bytes (K, M, B: decimal); default 5B");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory that each process may use (K, M, B: decimal)");
  verb->add_option("--disk-speed", o->disk_speed,
                   "Bytes per second that each node reads and writes (K, M, B: decimal); without "
                   "it, the speed of this machine now");
  verb->add_option("--random-seed,--seed", o->job.seed, "Seed of random masks (dare)");
  verb->add_option("--cache", o->job.guidance.cache,
                   "Folder of the statistics' cache, which all nodes see");
  add_compute_option(*verb, o->job.guidance.compute);
  add_lenient_option(*verb, o->unknown);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_slurm(*o); });
}

}  // namespace lewis
