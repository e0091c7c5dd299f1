// lewis apply MODEL+ADAPTER OUT: one model with its adapter, written and proven.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "cli/proof.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

struct ApplyArguments {
  std::string model, dtype;
  std::vector<std::string> adapters;
  MergeJob job;
  std::string shard_size, max_memory, report;
  bool no_proof = false, no_logits = false;
  std::shared_ptr<CommonOptions> common;
};

// A folder as it is, an id of the hub as its folder.
std::string local(const std::string& name, const CommonOptions& options) {
  std::filesystem::path path = name;
  make_local(path, options);
  return path.string();
}

// MODEL+ADAPTER+ADAPTER in parts, unless a folder is called so.
void split_adapters(ApplyArguments& o) {
  std::vector<std::string> parts(1);
  for (const char c : o.model) {
    if (c == '+') parts.emplace_back();
    if (c != '+') parts.back().push_back(c);
  }
  if (!std::filesystem::exists(o.model) && parts.size() > 1) {
    o.adapters.insert(o.adapters.begin(), parts.begin() + 1, parts.end());
    o.model = parts[0];
  }
  const bool empty = o.adapters.empty() || o.model.empty() ||
                     std::ranges::find(o.adapters, "") != o.adapters.end();
  if (empty)
    throw usage_error("{}: expected MODEL+ADAPTER, or MODEL with --adapter ADAPTER",
                      fmt::join(parts, "+"));
}

void run_apply(ApplyArguments& o) {
  split_adapters(o);
  for (std::string& adapter : o.adapters) adapter = local(adapter, *o.common);
  o.job.recipe = adapter_recipe(local(o.model, *o.common), o.adapters, o.dtype);
  if (!o.shard_size.empty()) o.job.shard_bytes = parse_bytes(o.shard_size, "--out-shard-size");
  if (!o.max_memory.empty()) o.job.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  if (!o.report.empty()) o.job.report = o.report == "true" ? "" : o.report;
  o.job.prove.wanted = !o.no_proof;
  o.job.prove.logits = !o.no_logits;
  ProgressPrinter progress(o.common->quiet);
  const MergeResult result = merge(o.job, run_context(*o.common, progress));
  if (o.common->json) return write_json_text(json_text(result));
  const MergeReport& t = result.tensors;
  write_out("{}: {} tensors, {} in {} shard{}, {}{}\n", result.out.string(),
            t.merged + t.copied + t.resumed, human_bytes(t.bytes_written), t.shards,
            t.shards == 1 ? "" : "s", human_seconds(result.seconds),
            result.was_complete ? "; was complete already" : "");
  for (const AdapterProof& proof : result.proofs) print_proof(proof);
  if (!result.report.empty()) write_out("{}\n", result.report.string());
}

}  // namespace

void add_apply_verb(CLI::App& app) {
  auto o = std::make_shared<ApplyArguments>();
  CLI::App* verb = app.add_subcommand(
      "apply", "Write a model with its LoRA adapter merged, and prove that the adapter is in it");
  verb->add_option("MODEL", o->model, "MODEL+ADAPTER[+ADAPTER]: folders, or ids of the hub")
      ->required();
  verb->add_option("OUT", o->job.out, "Folder of the merged model")->required();
  verb->add_option("--adapter", o->adapters,
                   "An adapter that MODEL does not name; may be repeated, and the order counts")
      ->allow_extra_args(false);
  verb->add_option(
      "--dtype", o->dtype,
      "Type of the weights: float32, bfloat16, float16; fp8_block where the model has such "
      "matrices (default: as they are stored, quantised ones as bfloat16)");
  verb->add_flag("--force", o->job.force, "Replace OUT if it exists");
  verb->add_flag("--resume", o->job.resume, "Go on with OUT.partial; begin where there is none");
  verb->add_flag("--no-proof", o->no_proof, "Write the model without proving it");
  verb->add_flag("--no-logits", o->no_logits, "Prove the tensors alone, and run no model");
  verb->add_flag("--force-rounding", o->job.prove.force_rounding,
                 "Write a model whose type loses half of a change, too");
  verb->add_option("--out-shard-size", o->shard_size,
                   "Largest shard in bytes (K, M, B: decimal); default 5B");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory of the merge (K, M, B: decimal): kept, or refused before work");
  verb->add_flag("--report{true}", o->report,
                 "Write OUT/report.html, a page about the result; or --report=FILE");
  o->common = add_common_options(*verb);
  verb->callback([o] { run_apply(*o); });
}

}  // namespace lewis
