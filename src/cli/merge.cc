// lewis merge RECIPE OUT: the whole way, calibrate if asked, plan, merge.
#include <fmt/format.h>

#include "base/error.h"
#include "cli/gguf_options.h"
#include "cli/proof.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

struct MergeArguments {
  std::filesystem::path recipe;
  UnknownKeys unknown = UnknownKeys::kRefused;
  MergeJob job;
  std::string shard_size, max_memory;
  bool stream = false;
  std::string max_disk;
  std::vector<std::string> model_ids;  // NAME=ID
  std::string explain;                 // a tensor
  std::string part;                    // "3/8", "auto"
  std::string report;                  // file of the report; "true": OUT/report.html; "": none
  bool dry_run = false;
  GgufOptions gguf;  // for OUT.gguf
  std::shared_ptr<CommonOptions> common;
};

// mergekit's flags that mean nothing here: lewis has one device, always reads lazily, always writes
// asynchronously, and never runs code of a checkpoint.
void add_mergekit_flags(CLI::App& verb, bool& copy_tokenizer_off) {
  static constexpr const char* kFlags[] = {"--cuda,!--no-cuda",
                                           "--low-cpu-memory,!--no-low-cpu-memory",
                                           "--allow-crimes,!--no-allow-crimes",
                                           "--trust-remote-code,!--no-trust-remote-code",
                                           "--lazy-unpickle,!--no-lazy-unpickle",
                                           "--clone-tensors,!--no-clone-tensors",
                                           "--read-to-gpu,!--no-read-to-gpu",
                                           "--multi-gpu,!--no-multi-gpu",
                                           "--gpu-rich",
                                           "--async-write,!--no-async-write",
                                           "--write-model-card,!--no-write-model-card",
                                           "--safe-serialization,!--no-safe-serialization",
                                           "--verbose,-v"};
  static constexpr const char* kValues[] = {"--transformers-cache", "--lora-merge-cache",
                                            "--lora-merge-dtype",   "--device",
                                            "--write-threads",      "--intermediate-dir"};
  const auto say = [](const std::string& name) {
    write_err("lewis: {} has no meaning here and is ignored\n", name);
  };
  for (const char* flag : kFlags) {
    const std::string name = std::string(flag).substr(0, std::string(flag).find(','));
    verb.add_flag_callback(
            name, [say, name] { say(name); }, "mergekit's; ignored")
        ->group("mergekit");
    const size_t no = std::string(flag).find('!');
    if (no != std::string::npos) {
      const std::string off = std::string(flag).substr(no + 1);
      verb.add_flag_callback(
              off, [say, off] { say(off); }, "mergekit's; ignored")
          ->group("mergekit");
    }
  }
  for (const char* name : kValues) {
    verb.add_option_function<std::string>(
            name, [say, name](const std::string&) { say(name); }, "mergekit's; ignored")
        ->group("mergekit");
  }
  verb.add_flag(
      "--copy-tokenizer,!--no-copy-tokenizer",
      [&copy_tokenizer_off](int64_t on) { copy_tokenizer_off = on < 0; },
      "Copy the tokenizer's files (default)");
}

void print_refinement_cost(const MergeForecast& f) {
  const RefineCost& cost = *f.refinement;
  write_out(
      "Before that it would be {}: {} tokens.\nRefinement: memory about {}, --max-memory may be {} "
      "or more; {} more of disk until the model is written. Its time is not in the above.\n",
      f.refinement_words, with_commas(cost.tokens), human_bytes(cost.peak_memory),
      human_bytes(cost.least_memory), human_bytes(cost.disk));
}

void print_merge(const MergeForecast& f) {
  const MergeCost& cost = f.cost;
  write_out("Would read {} and write {} ({} tensors, {} parameters) to {}.\n",
            human_bytes(cost.bytes_read), human_bytes(cost.bytes_written),
            with_commas(cost.tensors), with_commas(cost.parameters), f.out.string());
  if (cost.vocabulary > 0) {
    write_out("Vocabulary: another tokenizer, with {} rows of embeddings.\n",
              with_commas(static_cast<uint64_t>(cost.vocabulary)));
  }
  write_out("Memory: about {}; --max-memory may be {} or more.\nDisk: {} needed, {} free.\n",
            human_bytes(cost.peak_memory), human_bytes(cost.least_memory),
            human_bytes(cost.bytes_written), human_bytes(f.disk_free));
  if (cost.bytes_fetched > 0) {
    write_out("Time: as long as {} take to come from the hub, at least about {} for the disk.\n",
              human_bytes(cost.bytes_fetched), human_seconds(f.seconds));
  } else {
    write_out("Time: about {}, as this disk now reads {}/s and writes {}/s.\n",
              human_seconds(f.seconds), human_bytes(static_cast<uint64_t>(f.read_speed)),
              human_bytes(static_cast<uint64_t>(f.write_speed)));
  }
  for (const OutputWeights& output : f.outputs)
    write_out("Output {}: {}\n", output.name, output.words);
  if (f.refinement) print_refinement_cost(f);
}

// A recipe with outputs: a line per model, and one about all.
void print_outputs(const MergeResult& r, const MergeJob& job) {
  for (const MergedOutput& output : r.outputs) {
    write_out("{}: {}{}\n", output.out.string(), output.weights.words,
              output.was_complete              ? "; is complete already"
              : output.tensors.complete        ? ""
              : output.tensors.shards_left > 0 ? "; other shards are not there yet"
                                               : "; not complete");
    if (!output.report.empty()) write_out("{}\n", output.report.string());
  }
  if (r.was_complete) return;
  const MergeReport& t = r.tensors;
  const std::string part =
      job.part ? fmt::format("part {}/{}: ", job.part->index, job.part->count) : "";
  write_out("{}: {}{} read once, {} written for {} models, {}\n", r.out.string(), part,
            human_bytes(t.bytes_read), human_bytes(t.bytes_written), r.outputs.size(),
            human_seconds(r.seconds));
}

void print_merge(const MergeResult& r) {
  const MergeReport& t = r.tensors;
  if (r.was_complete) {
    write_out("{}: is complete already ({} in {} shard{}); `lewis verify {}` reads every byte\n",
              r.out.string(), human_bytes(t.bytes_written), t.shards, t.shards == 1 ? "" : "s",
              r.out.string());
    if (!r.report.empty()) write_out("{}\n", r.report.string());
    return;
  }
  const std::string resumed = t.resumed ? fmt::format(", {} taken over", t.resumed) : "";
  const std::string refined = t.refined ? fmt::format(", {} refined", t.refined) : "";
  write_out("{}: {} tensors: {} merged, {} copied{}{}; {} in {} shard{}, {}\n", r.out.string(),
            t.merged + t.copied + t.refined + t.resumed, t.merged, t.copied, refined, resumed,
            human_bytes(t.bytes_written), t.shards, t.shards == 1 ? "" : "s",
            human_seconds(r.seconds));
  if (!r.compute.empty()) write_out("densities from calibration, linear layers in {}\n", r.compute);
  if (!r.report.empty()) write_out("{}\n", r.report.string());
}

// A merge in parts: what this worker did, and how far the whole is.
void print_part(const MergeResult& r, const MergeJob& job) {
  if (r.was_complete) return print_merge(r);
  const MergeReport& t = r.tensors;
  if (job.part) {
    const std::string resumed = t.resumed ? fmt::format(", {} taken over", t.resumed) : "";
    write_out("{}: part {}/{}: {} tensors: {} merged, {} copied{}; {} in {} shard{}, {}\n",
              r.out.string(), job.part->index, job.part->count, t.merged + t.copied + t.resumed,
              t.merged, t.copied, resumed, human_bytes(t.bytes_written), t.shards,
              t.shards == 1 ? "" : "s", human_seconds(r.seconds));
  }
  if (t.complete) {
    write_out("{}: complete: {} shard{}, every hash was checked\n", r.out.string(), t.all_shards,
              t.all_shards == 1 ? "" : "s");
  } else if (t.shards_left > 0) {
    write_out("{}: {} of {} shards are not there yet; the last worker puts all together\n",
              r.out.string(), t.shards_left, t.all_shards);
  }
  if (!r.report.empty()) write_out("{}\n", r.report.string());
}

void fill_job(MergeArguments& o, const RunContext& run) {
  o.job.recipe = o.stream ? open_streamed(o.recipe, o.unknown, stream_options(o.max_disk), run)
                          : open_recipe(o.recipe, o.unknown);
  if (!o.shard_size.empty()) o.job.shard_bytes = parse_bytes(o.shard_size, "--out-shard-size");
  if (!o.max_memory.empty()) o.job.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  if (!o.report.empty()) o.job.report = o.report == "true" ? "" : o.report;
  if (!o.part.empty()) o.job.part = parse_part(o.part);
  for (const std::string& given : o.model_ids) {
    const size_t equals = given.find('=');
    if (equals == given.npos || equals == 0 || equals + 1 == given.size()) {
      throw usage_error(
          "--model-id {}: expected NAME=ID, a model as the recipe names it and its "
          "id on the hub",
          given);
    }
    o.job.model_ids[given.substr(0, equals)] = given.substr(equals + 1);
  }
}

// The same as `lewis convert RECIPE OUT.gguf`. What a folder has beside the weights, and what makes
// it in pieces, has no place in a file.
void merge_into_gguf(MergeArguments& o) {
  struct Option {
    const char* name;
    bool given;
  };
  for (const auto& [name, given] : {Option{"--resume", o.job.resume},
                                    {"--require-partial", o.job.require_partial},
                                    {"--part", !o.part.empty()},
                                    {"--finish", o.job.finish},
                                    {"--dry-run", o.dry_run},
                                    {"--explain", !o.explain.empty()},
                                    {"--no-guidance", o.job.no_guidance},
                                    {"--stream", o.stream},
                                    {"--max-disk", !o.max_disk.empty()},
                                    {"--random-seed", o.job.seed != 0},
                                    {"--report", !o.report.empty()},
                                    {"--base-model-id", !o.job.base_model_id.empty()},
                                    {"--model-id", !o.model_ids.empty()},
                                    {"--prove", o.job.prove.wanted},
                                    {"--no-copy-tokenizer", o.job.no_tokenizer}}) {
    if (given)
      throw usage_error("{}: {} is for a folder, not for a GGUF file", o.job.out.string(), name);
  }
  ConvertJob job{.model = o.recipe,
                 .out = o.job.out,
                 .force = o.job.force,
                 .unknown_keys = o.unknown,
                 .guidance = o.job.guidance};
  run_gguf(job, o.gguf, o.shard_size, o.max_memory, *o.common);
}

void run_merge(MergeArguments& o) {
  if (o.job.out.extension() == ".gguf" && !std::filesystem::is_directory(o.job.out))
    return merge_into_gguf(o);
  if (const auto given = o.gguf.given(); !given.empty()) {
    throw usage_error("{}: {} is for a GGUF file, whose name ends in .gguf", o.job.out.string(),
                      given.front());
  }
  if (!o.max_disk.empty() && !o.stream)
    throw usage_error("--max-disk is for --stream: without it all models come into the cache");
  if (!o.stream) make_local(o.recipe, *o.common);
  ProgressPrinter progress(o.common->quiet);
  const RunContext run = run_context(*o.common, progress);
  fill_job(o, run);
  if (o.dry_run) {
    const MergeForecast result = forecast(o.job, run);
    o.common->json ? write_json_text(json_text(result)) : print_merge(result);
    return;
  }
  if (!o.explain.empty()) {
    for (const std::string& line : explain(o.job, o.explain, run)) write_out("{}\n", line);
    return;
  }
  const MergeResult result = merge(o.job, run);
  if (o.common->json) {
    write_json_text(json_text(result));
  } else if (!result.outputs.empty()) {
    print_outputs(result, o.job);
  } else {
    o.job.part || o.job.finish ? print_part(result, o.job) : print_merge(result);
  }
  if (o.common->json) return;
  for (const AdapterProof& proof : result.proofs) print_proof(proof);
}

}  // namespace

void add_merge_verb(CLI::App& app) {
  auto o = std::make_shared<MergeArguments>();
  CLI::App* verb =
      app.add_subcommand("merge", "Merge the models of a recipe: calibrate if asked, plan, merge");
  verb->add_option("--explain", o->explain,
                   "Say which value each parameter has for a tensor, and why; do nothing else");
  verb->add_option("RECIPE", o->recipe, "mergekit recipe, with a lewis: section for guidance")
      ->required();
  verb->add_option("OUT", o->job.out, "Folder of the merged model, or a file that ends in .gguf")
      ->required();
  verb->add_flag("--force", o->job.force, "Replace OUT if it exists");
  verb->add_flag(
      "--resume", o->job.resume,
      "Go on with OUT.partial, which an interrupted run of the same merge has left; begin "
      "where there is none; leave OUT as it is when the same merge has completed it");
  verb->add_flag("--require-partial", o->job.require_partial,
                 "As --resume, but fail where there is nothing to go on with");
  verb->add_option("--part", o->part,
                   "I/N: write only share I (from 0) of N into OUT.partial, beside other workers; "
                   "auto: I and N from Slurm, MPI or Kubernetes; the last worker completes OUT");
  verb->add_flag("--finish", o->job.finish,
                 "Write no shard: check the shards of all parts and complete OUT");
  verb->add_flag("--dry-run", o->dry_run, "Check everything, say what would be done, do nothing");
  verb->add_flag("--no-guidance", o->job.no_guidance,
                 "Ignore the lewis: section: densities as written");
  verb->add_option("--out-shard-size", o->shard_size,
                   "Largest shard in bytes (K, M, B: decimal); default 5B");
  verb->add_option("--max-memory", o->max_memory,
                   "Bytes of memory (K, M, B: decimal): kept, or refused before any work");
  verb->add_flag("--stream", o->stream,
                 "Read the weights of the hub's models while they are merged, and store none");
  verb->add_option("--max-disk", o->max_disk,
                   "With --stream: bytes of weights that calibration may download instead of "
                   "streaming them in every pass (K, M, B: decimal)");
  verb->add_option("--random-seed,--seed", o->job.seed, "Seed of random masks (dare)");
  verb->add_option("--cache", o->job.guidance.cache, "Folder of the statistics' cache");
  verb->add_flag("--report{true}", o->report,
                 "Write OUT/report.html, a page about the merge; or --report=FILE");
  verb->add_option("--base-model-id", o->job.base_model_id,
                   "The hub's id of base_model, which stands in OUT for its folder");
  verb->add_option("--model-id", o->model_ids,
                   "NAME=ID: the same for any model or adapter; may be repeated")
      ->allow_extra_args(false);
  verb->add_flag("--prove", o->job.prove.wanted,
                 "Prove that the adapters of the recipe's models are in what is read, or written");
  verb->add_flag("--force-rounding", o->job.prove.force_rounding,
                 "With --prove: write a model whose type loses half of an adapter's change, too");
  add_gguf_options(*verb, o->gguf);
  add_compute_option(*verb, o->job.guidance.compute);
  add_lenient_option(*verb, o->unknown);
  add_mergekit_flags(*verb, o->job.no_tokenizer);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_merge(*o); });
}

}  // namespace lewis
