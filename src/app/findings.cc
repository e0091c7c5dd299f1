#include "app/findings.h"

#include "app/activation_errors.h"
#include "app/running_model.h"
#include "app/tokenizers.h"
#include "base/current_error.h"
#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "io/checkpoint.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

MergeOrigin about_of(const Manifest& manifest, const fs::path& file) {
  MergeOrigin about;
  try {
    about.version = manifest.about->at("lewis_version").get<std::string>();
    about.seed = manifest.about->at("seed").get<uint64_t>();
    for (const Json& s : manifest.about->at("sources")) {
      about.sources.emplace_back(s.at("model").get<std::string>(),
                                 s.at("fingerprint").get<std::string>());
    }
  } catch (const std::exception&) {
    throw input_error("{}: does not say what was merged (about.lewis_version, seed, sources)",
                      file.string());
  }
  return about;
}

// Runs `f`. When it fails, its message says what is missing.
template <typename F>
void attempt(std::vector<std::string>& missing, std::string_view what, const F& f) {
  try {
    f();
  } catch (...) {
    const Error e = current_error();
    if (e.code() == ExitCode::kInterrupted) throw;
    missing.push_back(fmt::format("{}: {}", what, e.what()));
  }
}

// The models are those that were merged: their fingerprints are in the manifest.
void check_models(const Findings& f) {
  const auto& sources = f.about.sources;
  const auto& models = f.inputs->models();
  for (size_t m = 0; m < models.size(); ++m) {
    const bool same = m < sources.size() && sources[m].second == models[m]->fingerprint();
    if (!same)
      throw input_error("{} has been changed since the merge, or is another", models[m]->label());
  }
}

// OUT's recipe, with the folders that the names in it stand for.
void read_merged_recipe(const ReportJob& o, Findings& f) {
  const fs::path file = o.out / "mergekit_config.yml";
  ModelIds ids;
  if (o.recipe && f.record) ids = f.record->model_ids;
  std::string text = read_text_file(file);
  if (o.recipe) text = PublicNames(*o.recipe, ids).with_folders(text, file);
  try {
    // The merge has passed over unknown keys, or there are none.
    f.recipe = parse_recipe(text, file, {}, UnknownKeys::kNoted);
  } catch (const Error& e) {
    if (e.code() != ExitCode::kUsage) throw;
    throw usage_error("{}; {}", e.what(),
                      o.recipe
                          ? "is --recipe the recipe that was merged?"
                          : "OUT keeps no paths: give the recipe that was merged with --recipe "
                            "FILE, or run this where these folders and files are");
  }
  f.names = std::make_unique<PublicNames>(*f.recipe, ids);
}

}  // namespace

Findings look_into(const ReportJob& o, RunResources& run) {
  if (!fs::is_directory(o.out)) throw input_error("{}: is no folder", o.out.string());
  if (!fs::exists(o.out / kManifestName)) {
    throw input_error("{}: was not merged by lewis (it has no {})", o.out.string(), kManifestName);
  }
  Findings f{.manifest = read_manifest(o.out / kManifestName)};
  f.about = about_of(f.manifest, o.out / kManifestName);
  if (fs::exists(o.out / kRunRecordName)) {
    f.record = read_run_record(o.out / kRunRecordName);
  } else {
    f.missing.push_back(
        fmt::format("Times, memory and importance: {} has no {}", o.out.string(), kRunRecordName));
  }
  attempt(f.missing, "Size, share kept and sign conflict of the task vectors", [&] {
    read_merged_recipe(o, f);
    f.inputs = std::make_unique<MergeInputs>(*f.recipe, open_options(run.threads, f.about.seed));
    check_models(f);
    if (!o.diagnostics) throw usage_error("left out by --no-diagnostics");
    std::optional<Checkpoint> finished;  // refined tensors are not what the recipe's method makes
    if (refines(*f.recipe)) finished = Checkpoint::open(o.out);
    f.diagnostics = std::make_shared<const MergeDiagnostics>(
        diagnose(*f.inputs, run.threads, run.progress, finished ? &*finished : nullptr));
  });
  if (f.diagnostics && f.recipe->lewis && !f.recipe->lewis->calibration.empty()) {
    attempt(f.missing, "Activation error against the experts", [&] {
      f.errors =
          activation_errors(*f.recipe, model_in(o.out), o.guidance, run.threads, run.progress);
    });
  }
  return f;
}

}  // namespace lewis
