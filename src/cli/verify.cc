// lewis verify OUT: compares the bytes of a merged model with its manifest; with --adapter and
// --base, whether the model holds the adapter.
#include <fmt/format.h>
#include <lewis/status.h>

#include "base/error.h"
#include "cli/proof.h"
#include "cli/verbs.h"

namespace lewis {

void print_proof(const AdapterProof& proof) {
  for (const std::string& line : proof.lines) write_out("{}\n", line);
}

namespace {

struct VerifyArguments {
  std::filesystem::path folder;
  ProveJob job;
  bool no_logits = false;
  std::shared_ptr<CommonOptions> common;
};

void verify_bytes(const VerifyArguments& o) {
  ProgressPrinter progress(o.common->quiet);
  const VerifyResult result = verify({o.folder}, run_context(*o.common, progress));
  if (o.common->json) {
    write_json_text(json_text(result));
  } else {
    write_out("{}: {} verified, every byte is what was written\n", result.out.string(),
              human_bytes(result.bytes));
  }
}

void verify_adapter(VerifyArguments& o) {
  if (o.job.base.empty() || o.job.adapters.empty())
    throw usage_error("--adapter and --base belong together: what was merged, and into what");
  o.job.model = o.folder;
  o.job.logits = !o.no_logits;
  for (std::filesystem::path* path : {&o.job.model, &o.job.base}) make_local(*path, *o.common);
  for (std::filesystem::path& adapter : o.job.adapters) make_local(adapter, *o.common);
  ProgressPrinter progress(o.common->quiet);
  const AdapterProof proof = prove(o.job, run_context(*o.common, progress));
  if (o.common->json) {
    write_json_text(json_text(proof));
  } else {
    print_proof(proof);
  }
  if (!proof.holds)
    throw Error(ExitCode::kVerify,
                fmt::format("{}: does not hold {}", o.folder.string(), proof.model));
}

}  // namespace

void add_verify_verb(CLI::App& app) {
  auto o = std::make_shared<VerifyArguments>();
  CLI::App* verb = app.add_subcommand(
      "verify", "Check a merged model's bytes against its manifest, or that an adapter is in it");
  verb->add_option("OUT", o->folder,
                   "Folder that lewis merge has written; with --adapter any model")
      ->required();
  verb->add_option(
          "--adapter", o->job.adapters,
          "Prove that the model holds this adapter, whoever merged it; may be repeated, in "
          "the order of merging")
      ->allow_extra_args(false);
  verb->add_option("--base", o->job.base, "The model that the adapter was merged into");
  verb->add_flag("--no-logits", o->no_logits, "With --adapter: compare the tensors alone");
  o->common = add_common_options(*verb);
  verb->callback([o] {
    const bool of_adapter = !o->job.adapters.empty() || !o->job.base.empty();
    of_adapter ? verify_adapter(*o) : verify_bytes(*o);
  });
}

}  // namespace lewis
