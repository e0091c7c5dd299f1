// The jobs: plain structs whose members the package sets.
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <lewis/adapters.h>
#include <lewis/gguf.h>
#include <lewis/status.h>

#include "run.h"
#include "verbs.h"

namespace lewis_python {
namespace {

// A struct with a default constructor, whose members are read and written.
template <typename T>
class Struct {
 public:
  Struct(nb::module_& module, const char* name) : class_(module, name) { class_.def(nb::init<>()); }
  template <typename M>
  Struct& rw(const char* name, M T::*member) {
    class_.def_rw(name, member);
    return *this;
  }
  // A recipe is wrapped for Python.
  Struct& recipe(lewis::RecipePtr T::*member) {
    class_.def_prop_rw(
        "recipe", [member](const T& t) { return Recipe{t.*member}; },
        [member](T& t, const Recipe& recipe) { t.*member = recipe.pointer; });
    return *this;
  }

  // A part of a merge as text: "3/8"; "" where there is none.
  Struct& part(std::optional<lewis::MergePart> T::*member) {
    class_.def_prop_rw(
        "part",
        [member](const T& t) {
          const auto& part = t.*member;
          return part ? std::to_string(part->index) + "/" + std::to_string(part->count) : "";
        },
        [member](T& t, const std::string& text) {
          t.*member = text.empty() ? std::nullopt : std::optional(lewis::parse_part(text));
        });
    return *this;
  }

  // Seconds as a whole number.
  Struct& seconds(const char* name, std::chrono::seconds T::*member) {
    class_.def_prop_rw(
        name, [member](const T& t) { return static_cast<int64_t>((t.*member).count()); },
        [member](T& t, int64_t seconds) { t.*member = std::chrono::seconds(seconds); });
    return *this;
  }

  // Whether keys of a recipe that nobody knows become notes.
  Struct& lenient(lewis::UnknownKeys T::*member) {
    class_.def_prop_rw(
        "lenient", [member](const T& t) { return t.*member == lewis::UnknownKeys::kNoted; },
        [member](T& t, bool lenient) { t.*member = unknown_keys(lenient); });
    return *this;
  }

 private:
  nb::class_<T> class_;
};

void bind_options(nb::module_& m) {
  nb::enum_<lewis::ComputeType>(m, "ComputeType")
      .value("F32", lewis::ComputeType::kF32)
      .value("BF16", lewis::ComputeType::kBF16);
  using lewis::GuidanceOptions;
  Struct<GuidanceOptions>(m, "GuidanceOptions")
      .rw("cache", &GuidanceOptions::cache)
      .rw("compute", &GuidanceOptions::compute)
      .rw("max_memory", &GuidanceOptions::max_memory);
  using lewis::ProofOptions;
  Struct<ProofOptions>(m, "ProofOptions")
      .rw("wanted", &ProofOptions::wanted)
      .rw("logits", &ProofOptions::logits)
      .rw("force_rounding", &ProofOptions::force_rounding);
  using lewis::TaskSettings;
  Struct<TaskSettings>(m, "TaskSettings")
      .rw("data", &TaskSettings::data)
      .rw("data_folder", &TaskSettings::data_folder)
      .rw("format", &TaskSettings::format)
      .rw("prompt_field", &TaskSettings::prompt_field)
      .rw("answer_field", &TaskSettings::answer_field)
      .rw("limit", &TaskSettings::limit)
      .rw("shots", &TaskSettings::shots)
      .rw("shots_data", &TaskSettings::shots_data)
      .rw("max_new_tokens", &TaskSettings::max_new_tokens)
      .rw("temperature", &TaskSettings::temperature)
      .rw("top_p", &TaskSettings::top_p)
      .rw("seed", &TaskSettings::seed)
      .rw("window", &TaskSettings::window)
      .rw("stride", &TaskSettings::stride);
}

void bind_merge_jobs(nb::module_& m) {
  using lewis::MergeJob, lewis::PlanJob, lewis::CalibrateJob;
  Struct<MergeJob>(m, "MergeJob")
      .recipe(&MergeJob::recipe)
      .rw("out", &MergeJob::out)
      .rw("force", &MergeJob::force)
      .rw("resume", &MergeJob::resume)
      .part(&MergeJob::part)
      .rw("finish", &MergeJob::finish)
      .rw("no_guidance", &MergeJob::no_guidance)
      .rw("no_tokenizer", &MergeJob::no_tokenizer)
      .rw("shard_bytes", &MergeJob::shard_bytes)
      .rw("seed", &MergeJob::seed)
      .rw("base_model_id", &MergeJob::base_model_id)
      .rw("model_ids", &MergeJob::model_ids)
      .rw("report", &MergeJob::report)
      .rw("guidance", &MergeJob::guidance)
      .rw("prove", &MergeJob::prove);
  Struct<PlanJob>(m, "PlanJob")
      .recipe(&PlanJob::recipe)
      .rw("out", &PlanJob::out)
      .rw("diagnostics", &PlanJob::diagnostics)
      .rw("guidance", &PlanJob::guidance);
  Struct<CalibrateJob>(m, "CalibrateJob")
      .lenient(&CalibrateJob::unknown_keys)
      .rw("model", &CalibrateJob::model)
      .rw("data", &CalibrateJob::data)
      .rw("format", &CalibrateJob::format)
      .rw("prompt_field", &CalibrateJob::prompt_field)
      .rw("answer_field", &CalibrateJob::answer_field)
      .rw("samples", &CalibrateJob::samples)
      .rw("seed", &CalibrateJob::seed)
      .rw("max_tokens", &CalibrateJob::max_tokens)
      .rw("reference_protocol", &CalibrateJob::reference_protocol)
      .rw("skip_first_token", &CalibrateJob::skip_first_token)
      .rw("out", &CalibrateJob::out)
      .part(&CalibrateJob::part)
      .rw("finish", &CalibrateJob::finish)
      .rw("guidance", &CalibrateJob::guidance);
}

void bind_judging_jobs(nb::module_& m) {
  using lewis::EvaluateJob, lewis::ReportJob, lewis::TuneJob, lewis::TuneOptions;
  Struct<EvaluateJob>(m, "EvaluateJob")
      .lenient(&EvaluateJob::unknown_keys)
      .rw("models", &EvaluateJob::models)
      .rw("tasks", &EvaluateJob::tasks)
      .rw("settings", &EvaluateJob::settings)
      .rw("other_results", &EvaluateJob::other_results)
      .rw("baseline", &EvaluateJob::baseline)
      .rw("expert", &EvaluateJob::expert)
      .rw("layers", &EvaluateJob::layers)
      .rw("output", &EvaluateJob::output)
      .rw("log_samples", &EvaluateJob::log_samples)
      .rw("no_resume", &EvaluateJob::no_resume)
      .part(&EvaluateJob::part)
      .rw("finish", &EvaluateJob::finish)
      .rw("allow_unsandboxed", &EvaluateJob::allow_unsandboxed)
      .rw("guidance", &EvaluateJob::guidance);
  Struct<ReportJob>(m, "ReportJob")
      .rw("out", &ReportJob::out)
      .rw("file", &ReportJob::file)
      .rw("figures", &ReportJob::figures)
      .rw("eval", &ReportJob::eval)
      .rw("card", &ReportJob::card)
      .rw("diagnostics", &ReportJob::diagnostics)
      .recipe(&ReportJob::recipe)
      .rw("guidance", &ReportJob::guidance);
  Struct<TuneOptions>(m, "TuneOptions")
      .rw("evaluations", &TuneOptions::evaluations)
      .rw("samples", &TuneOptions::samples)
      .rw("held_out", &TuneOptions::held_out)
      .rw("seed", &TuneOptions::seed)
      .rw("plain_mean", &TuneOptions::plain_mean)
      .rw("force", &TuneOptions::force)
      .rw("guidance", &TuneOptions::guidance);
  Struct<TuneJob>(m, "TuneJob")
      .lenient(&TuneJob::unknown_keys)
      .rw("recipe", &TuneJob::recipe)
      .rw("out", &TuneJob::out)
      .rw("options", &TuneJob::options);
}

void bind_adapter_jobs(nb::module_& m) {
  using lewis::ExtractJob, lewis::ProveJob, lewis::ConvertJob;
  Struct<ExtractJob>(m, "ExtractJob")
      .lenient(&ExtractJob::unknown_keys)
      .rw("base", &ExtractJob::base)
      .rw("model", &ExtractJob::model)
      .rw("out", &ExtractJob::out)
      .rw("rank", &ExtractJob::rank)
      .rw("error", &ExtractJob::error)
      .rw("uniform_ranks", &ExtractJob::uniform_ranks)
      .rw("dtype", &ExtractJob::dtype)
      .rw("seed", &ExtractJob::seed)
      .rw("partial", &ExtractJob::partial)
      .rw("dora", &ExtractJob::dora)
      .rw("expert_parameters", &ExtractJob::expert_parameters)
      .rw("statistics", &ExtractJob::statistics)
      .rw("text", &ExtractJob::text)
      .rw("base_name", &ExtractJob::base_name)
      .rw("force", &ExtractJob::force);
  Struct<ProveJob>(m, "ProveJob")
      .rw("model", &ProveJob::model)
      .rw("base", &ProveJob::base)
      .rw("adapters", &ProveJob::adapters)
      .rw("logits", &ProveJob::logits)
      .rw("guidance", &ProveJob::guidance);
  Struct<ConvertJob>(m, "ConvertJob")
      .lenient(&ConvertJob::unknown_keys)
      .rw("model", &ConvertJob::model)
      .rw("out", &ConvertJob::out)
      .rw("type", &ConvertJob::type)
      .rw("imatrix", &ConvertJob::imatrix)
      .rw("pre", &ConvertJob::pre)
      .rw("modelfile", &ConvertJob::modelfile)
      .rw("part_bytes", &ConvertJob::part_bytes)
      .rw("force", &ConvertJob::force)
      .rw("guidance", &ConvertJob::guidance);
}

// The hub of pull and push is that of the environment when the job is made.
void bind_folder_jobs(nb::module_& m) {
  using lewis::VerifyJob, lewis::StatusJob, lewis::PullJob, lewis::PushJob;
  Struct<VerifyJob>(m, "VerifyJob").rw("out", &VerifyJob::out);
  Struct<StatusJob>(m, "StatusJob").rw("out", &StatusJob::out).seconds("wait", &StatusJob::wait);
  Struct<PullJob>(m, "PullJob").rw("names", &PullJob::names).rw("data", &PullJob::data);
  Struct<PushJob>(m, "PushJob")
      .rw("out", &PushJob::out)
      .rw("id", &PushJob::id)
      .rw("is_private", &PushJob::is_private)
      .rw("force", &PushJob::force);
}

}  // namespace

void bind_jobs(nb::module_& module) {
  bind_options(module);
  bind_merge_jobs(module);
  bind_judging_jobs(module);
  bind_adapter_jobs(module);
  bind_folder_jobs(module);
}

}  // namespace lewis_python
