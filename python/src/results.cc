// The results: plain structs whose members can be read, with a repr and the JSON of the command
// line.
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <lewis/adapters.h>
#include <lewis/gguf.h>
#include <lewis/status.h>

#include "run.h"
#include "verbs.h"

namespace lewis_python {
namespace {

// "MergeCost(tensors=36, ...)"; long values are cut short.
nb::str repr_of(nb::handle self) {
  const nb::object shortened = nb::module_::import_("reprlib").attr("repr");
  std::string text = cpp_text(self.type().attr("__name__")) + "(";
  bool first = true;
  for (const nb::handle name : self.type().attr("_fields")) {
    if (!first) text += ", ";
    first = false;
    text += cpp_text(name) + "=" + cpp_text(shortened(nb::getattr(self, name)));
  }
  return python_text(text + ")");
}

// A struct whose members are read. The names of the members are kept for its repr.
template <typename T>
class Result {
 public:
  Result(nb::module_& module, const char* name, const char* doc) : class_(module, name, doc) {}
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  ~Result() {
    class_.attr("_fields") = nb::tuple(names_);
    class_.def("__repr__", [](nb::handle self) { return repr_of(self); });
  }

  template <typename M>
  Result& ro(const char* name, M T::*member) {
    class_.def_ro(name, member);
    names_.append(name);
    return *this;
  }
  // Texts that may hold names of files, which need not be UTF-8.
  Result& text(const char* name, std::string T::*member) {
    class_.def_prop_ro(name, [member](const T& t) { return python_text(t.*member); });
    names_.append(name);
    return *this;
  }
  Result& texts(const char* name, std::vector<std::string> T::*member) {
    class_.def_prop_ro(name, [member](const T& t) {
      nb::typed<nb::list, nb::str> list;
      for (const std::string& line : t.*member) list.append(python_text(line));
      return list;
    });
    names_.append(name);
    return *this;
  }
  Result& recipe(const char* name, lewis::RecipePtr T::*member) {
    class_.def_prop_ro(name, [member](const T& t) { return Recipe{t.*member}; });
    return *this;
  }
  Result& json() {
    class_.def(
        "json", [](const T& t) { return python_text(lewis::json_text(t)); },
        "The JSON object that the command line prints with --json, as text.");
    return *this;
  }

 private:
  nb::class_<T> class_;
  nb::list names_;
};

void bind_costs(nb::module_& m) {
  using namespace lewis;  // NOLINT: only names of results
  Result<MergeReport>(m, "MergeReport",
                      "Every tensor of a merge's output, accounted for: numbers of tensors, "
                      "parameters, bytes and shards, names of tensors, and warnings. Of a merge "
                      "in parts: `complete`, and shards of all parts and those not yet there.")
      .ro("merged", &MergeReport::merged)
      .ro("copied", &MergeReport::copied)
      .ro("refined", &MergeReport::refined)
      .ro("resumed", &MergeReport::resumed)
      .ro("parameters", &MergeReport::parameters)
      .ro("bytes_read", &MergeReport::bytes_read)
      .ro("bytes_written", &MergeReport::bytes_written)
      .ro("shards", &MergeReport::shards)
      .ro("complete", &MergeReport::complete)
      .ro("all_shards", &MergeReport::all_shards)
      .ro("shards_left", &MergeReport::shards_left)
      .texts("copied_tensors", &MergeReport::copied_tensors)
      .texts("refined_tensors", &MergeReport::refined_tensors)
      .texts("resumed_tensors", &MergeReport::resumed_tensors)
      .texts("warnings", &MergeReport::warnings);
  Result<MergeCost>(m, "MergeCost",
                    "What a merge will take: numbers of tensors and parameters, and bytes. "
                    "`least_memory` is the smallest max_memory that it can keep; `vocabulary` is "
                    "the rows of the embeddings where a tokenizer setting changes them, else 0.")
      .ro("tensors", &MergeCost::tensors)
      .ro("parameters", &MergeCost::parameters)
      .ro("bytes_read", &MergeCost::bytes_read)
      .ro("bytes_written", &MergeCost::bytes_written)
      .ro("peak_memory", &MergeCost::peak_memory)
      .ro("least_memory", &MergeCost::least_memory)
      .ro("vocabulary", &MergeCost::vocabulary);
  Result<RefineCost>(
      m, "RefineCost",
      "What refinement will take: tokens of all texts, and bytes of memory and disk.")
      .ro("tokens", &RefineCost::tokens)
      .ro("peak_memory", &RefineCost::peak_memory)
      .ro("least_memory", &RefineCost::least_memory)
      .ro("disk", &RefineCost::disk);
}

void bind_merging(nb::module_& m) {
  using namespace lewis;  // NOLINT: only names of results
  Result<CalibratedText>(m, "CalibratedText",
                         "Statistics of a model's layers on one text. `file` holds them; `origin` "
                         "says what they depend on.")
      .text("model", &CalibratedText::model)
      .ro("file", &CalibratedText::file)
      .ro("tokens", &CalibratedText::tokens)
      .ro("sequences", &CalibratedText::sequences)
      .ro("linear_layers", &CalibratedText::linear_layers)
      .ro("reused", &CalibratedText::reused)
      .ro("origin", &CalibratedText::origin)
      .json();
  Result<CalibrateResult>(m, "CalibrateResult",
                          "What calibrate returns: one CalibratedText per text; in parts, those "
                          "that are complete, and pieces of all texts, those that this call has "
                          "measured, and those that are missing.")
      .ro("texts", &CalibrateResult::texts)
      .ro("pieces", &CalibrateResult::pieces)
      .ro("pieces_measured", &CalibrateResult::pieces_measured)
      .ro("pieces_left", &CalibrateResult::pieces_left)
      .json();
  Result<LayerPlan>(
      m, "LayerPlan",
      "What is found for one model, by the name of the linear layer (X of X.weight): norms, "
      "importance, and density, the share of the task vector that is kept (0 to 1).")
      .ro("base_norm", &LayerPlan::base_norm)
      .ro("expert_norm", &LayerPlan::expert_norm)
      .ro("importance", &LayerPlan::importance)
      .ro("part_importance", &LayerPlan::part_importance)
      .ro("few_tokens", &LayerPlan::few_tokens)
      .ro("density", &LayerPlan::density)
      .ro("coefficient", &LayerPlan::coefficient);
  Result<PlannedModel>(m, "PlannedModel",
                       "One calibrated model: `layers`, and means of the densities over linear "
                       "layers, over their parameters, and over all parameters of the model.")
      .text("model", &PlannedModel::model)
      .text("data", &PlannedModel::data)
      .ro("from_statistics", &PlannedModel::from_statistics)
      .ro("layers", &PlannedModel::layers)
      .ro("mean_density", &PlannedModel::mean_density)
      .ro("weighted_density", &PlannedModel::weighted_density)
      .ro("whole_density", &PlannedModel::whole_density);
  Result<PlanResult>(m, "PlanResult",
                     "What plan returns. `planned` is the recipe with densities, `yaml` its text, "
                     "`compute` the type of the calibrations.")
      .recipe("recipe", &PlanResult::recipe)
      .recipe("planned", &PlanResult::planned)
      .text("yaml", &PlanResult::yaml)
      .ro("models", &PlanResult::models)
      .ro("cost", &PlanResult::cost)
      .texts("warnings", &PlanResult::warnings)
      .ro("compute", &PlanResult::compute)
      .text("refinement", &PlanResult::refinement)
      .json();
  Result<OutputWeights>(
      m, "OutputWeights",
      "How one of several outputs of a recipe is weighted: `words`, and the share "
      "of each model that has one.")
      .text("name", &OutputWeights::name)
      .text("words", &OutputWeights::words)
      .ro("shares", &OutputWeights::shares);
  Result<MergedOutput>(
      m, "MergedOutput",
      "One of several outputs of a recipe: the model in `out`, how it is weighted, "
      "and its tensors.")
      .ro("out", &MergedOutput::out)
      .ro("weights", &MergedOutput::weights)
      .ro("tensors", &MergedOutput::tensors)
      .ro("was_complete", &MergedOutput::was_complete)
      .ro("report", &MergedOutput::report);
  Result<MergeResult>(m, "MergeResult",
                      "What merge returns. `seconds` is without the report; `report` is an empty "
                      "path where none was written. `outputs` are those of a recipe with several; "
                      "`proofs` say that adapters are in what was written.")
      .ro("out", &MergeResult::out)
      .ro("tensors", &MergeResult::tensors)
      .ro("guided_models", &MergeResult::guided_models)
      .ro("compute", &MergeResult::compute)
      .ro("seconds", &MergeResult::seconds)
      .ro("was_complete", &MergeResult::was_complete)
      .ro("report", &MergeResult::report)
      .ro("outputs", &MergeResult::outputs)
      .ro("proofs", &MergeResult::proofs)
      .json();
  Result<MergeForecast>(m, "MergeForecast",
                        "What forecast returns: speeds in bytes per second, sizes in bytes, and "
                        "`seconds` of the merge alone.")
      .ro("out", &MergeForecast::out)
      .ro("cost", &MergeForecast::cost)
      .ro("refinement", &MergeForecast::refinement)
      .text("refinement_words", &MergeForecast::refinement_words)
      .texts("warnings", &MergeForecast::warnings)
      .ro("read_speed", &MergeForecast::read_speed)
      .ro("write_speed", &MergeForecast::write_speed)
      .ro("seconds", &MergeForecast::seconds)
      .ro("disk_free", &MergeForecast::disk_free)
      .ro("outputs", &MergeForecast::outputs)
      .json();
}

void bind_evaluation(nb::module_& m) {
  using namespace lewis;  // NOLINT: only names of results
  Result<ScoreDifference>(
      m, "ScoreDifference",
      "The difference to the baseline on the items that both have, in the metric's unit (nats for "
      "perplexity), with its 95 % interval; `p` is corrected for all comparisons of the call "
      "(Holm), and `shown` says whether the difference is significant.")
      .ro("difference", &ScoreDifference::difference)
      .ro("low", &ScoreDifference::low)
      .ro("high", &ScoreDifference::high)
      .ro("p", &ScoreDifference::p)
      .ro("shown", &ScoreDifference::shown);
  Result<TaskScore>(m, "TaskScore",
                    "One metric of one task on one model, in the metric's own unit.")
      .text("model", &TaskScore::model)
      .text("task", &TaskScore::task)
      .text("metric", &TaskScore::metric)
      .text("filter", &TaskScore::filter)
      .ro("value", &TaskScore::value)
      .ro("standard_error", &TaskScore::standard_error)
      .ro("items", &TaskScore::items)
      .ro("higher_is_better", &TaskScore::higher_is_better)
      .ro("difference", &TaskScore::difference);
  Result<EvaluateResult>(m, "EvaluateResult",
                         "What evaluate returns: scores model by model and task by task, and the "
                         "files that were written. Of a part: its items, and those that this call "
                         "has run.")
      .ro("scores", &EvaluateResult::scores)
      .ro("files", &EvaluateResult::files)
      .ro("part_items", &EvaluateResult::part_items)
      .ro("part_items_run", &EvaluateResult::part_items_run)
      .json();
}

void bind_report_and_tune(nb::module_& m) {
  using namespace lewis;  // NOLINT: only names of results
  Result<ReportResult>(
      m, "ReportResult",
      "What report returns: the page, its bytes, the figures, and what the page cannot show.")
      .ro("report", &ReportResult::report)
      .ro("bytes", &ReportResult::bytes)
      .ro("figures", &ReportResult::figures)
      .texts("missing", &ReportResult::missing)
      .json();
  Result<TunedValue>(
      m, "TunedValue",
      "One value of the recipe: its range, where the search began, and what it found; of "
      "`options`, "
      "places among them. `worth` is what was found minus the same with this value alone at its "
      "start, on held-out items, with its 95 % interval.")
      .text("path", &TunedValue::path)
      .ro("low", &TunedValue::low)
      .ro("high", &TunedValue::high)
      .ro("start", &TunedValue::start)
      .ro("found", &TunedValue::found)
      .texts("options", &TunedValue::options)
      .ro("worth", &TunedValue::worth)
      .ro("worth_low", &TunedValue::worth_low)
      .ro("worth_high", &TunedValue::worth_high);
  Result<TunedLoss>(m, "TunedLoss",
                    "Mean answer losses in nats on the held-out items of one calibration entry.")
      .text("model", &TunedLoss::model)
      .ro("items", &TunedLoss::items)
      .ro("base", &TunedLoss::base)
      .ro("expert", &TunedLoss::expert)
      .ro("start", &TunedLoss::start)
      .ro("found", &TunedLoss::found);
  Result<TuneResult>(m, "TuneResult",
                     "What tune returns. `gain` is found minus start on held-out items in units of "
                     "the objective, with its 95 % interval; below 0 is better.")
      .ro("out", &TuneResult::out)
      .ro("values", &TuneResult::values)
      .ro("losses", &TuneResult::losses)
      .ro("evaluations", &TuneResult::evaluations)
      .ro("taken_over", &TuneResult::taken_over)
      .texts("warnings", &TuneResult::warnings)
      .ro("start_objective", &TuneResult::start_objective)
      .ro("objective", &TuneResult::objective)
      .ro("gain", &TuneResult::gain)
      .ro("gain_low", &TuneResult::gain_low)
      .ro("gain_high", &TuneResult::gain_high)
      .json();
}

void bind_proofs(nb::module_& m) {
  using namespace lewis;  // NOLINT: only names of results
  nb::enum_<AdapterVerdict>(m, "AdapterVerdict",
                            "How a stored tensor compares with what the adapter asks for.")
      .value("PROVEN", AdapterVerdict::kProven)
      .value("COARSE", AdapterVerdict::kCoarse)
      .value("ROUNDED", AdapterVerdict::kRounded)
      .value("ABSENT", AdapterVerdict::kAbsent)
      .value("FACTOR", AdapterVerdict::kFactor)
      .value("MISREAD", AdapterVerdict::kMisread)
      .value("OTHER", AdapterVerdict::kOther)
      .value("MISSING", AdapterVerdict::kMissing)
      .value("UNASKED", AdapterVerdict::kUnasked);
  Result<AdaptedTensor>(
      m, "AdaptedTensor",
      "One tensor of a proof: with the change D = stored - base and the wanted change E (scale B "
      "A), "
      "`change` is |E|, `error` |D - E| / |E|, `rounding` what the stored type must lose of it, "
      "`factor` <D, E> / <E, E>, `cosine` the angle's; `words` are for people.")
      .text("name", &AdaptedTensor::name)
      .ro("verdict", &AdaptedTensor::verdict)
      .text("words", &AdaptedTensor::words)
      .ro("change", &AdaptedTensor::change)
      .ro("error", &AdaptedTensor::error)
      .ro("rounding", &AdaptedTensor::rounding)
      .ro("factor", &AdaptedTensor::factor)
      .ro("cosine", &AdaptedTensor::cosine);
  Result<LogitProof>(
      m, "LogitProof",
      "Logits of the base with the adapter at run time against those of the written model: largest "
      "and mean difference, and what rounding explains. `why_not` says why they were not compared.")
      .text("why_not", &LogitProof::why_not)
      .ro("texts", &LogitProof::texts)
      .ro("tokens", &LogitProof::tokens)
      .ro("beside", &LogitProof::beside)
      .ro("merged", &LogitProof::merged)
      .ro("largest", &LogitProof::largest)
      .ro("mean", &LogitProof::mean)
      .ro("rounding_largest", &LogitProof::rounding_largest)
      .ro("rounding_mean", &LogitProof::rounding_mean);
  Result<AdapterProof>(
      m, "AdapterProof",
      "Whether a model `holds` an adapter: `changed` tensors that the adapter changes, `proven` "
      "that hold it, `error` and `rounding` over all of them; `lines` are for people.")
      .text("model", &AdapterProof::model)
      .text("subject", &AdapterProof::subject)
      .ro("holds", &AdapterProof::holds)
      .ro("changed", &AdapterProof::changed)
      .ro("proven", &AdapterProof::proven)
      .ro("error", &AdapterProof::error)
      .ro("rounding", &AdapterProof::rounding)
      .ro("tensors", &AdapterProof::tensors)
      .ro("logits", &AdapterProof::logits)
      .texts("lines", &AdapterProof::lines)
      .texts("warnings", &AdapterProof::warnings)
      .json();
}

void bind_adapters(nb::module_& m) {
  using namespace lewis;  // NOLINT: only names of results
  Result<ExtractedModule>(m, "ExtractedModule",
                          "A linear layer of an extracted adapter: its `rank`, the norm of its "
                          "`change`, and the share of it that the factors do not give back.")
      .text("module", &ExtractedModule::module)
      .ro("rank", &ExtractedModule::rank)
      .ro("change", &ExtractedModule::change)
      .ro("error", &ExtractedModule::error)
      .ro("weighted", &ExtractedModule::weighted);
  Result<ExtractResult>(
      m, "ExtractResult",
      "What extract returns: layers by factors, modules `saved` whole, `numbers` of "
      "the factors, `bytes` of the adapter, and the share of the change that is "
      "missing.")
      .ro("out", &ExtractResult::out)
      .ro("layers", &ExtractResult::layers)
      .texts("saved", &ExtractResult::saved)
      .texts("biases", &ExtractResult::biases)
      .texts("left_out", &ExtractResult::left_out)
      .ro("equal_tensors", &ExtractResult::equal_tensors)
      .ro("numbers", &ExtractResult::numbers)
      .ro("bytes", &ExtractResult::bytes)
      .ro("error", &ExtractResult::error)
      .json();
  Result<ConvertResult>(m, "ConvertResult",
                        "What convert returns: bytes and tensors of the GGUF file, the type of its "
                        "matrices, and the architecture as llama.cpp calls it.")
      .ro("out", &ConvertResult::out)
      .text("type", &ConvertResult::type)
      .ro("bytes", &ConvertResult::bytes)
      .ro("tensors", &ConvertResult::tensors)
      .text("architecture", &ConvertResult::architecture)
      .ro("files", &ConvertResult::files)
      .json();
}

void bind_folders(nb::module_& m) {
  using namespace lewis;  // NOLINT: only names of results
  Result<VerifyResult>(m, "VerifyResult", "What verify returns: the bytes that are right.")
      .ro("out", &VerifyResult::out)
      .ro("bytes", &VerifyResult::bytes)
      .json();
  Result<StatusResult>(m, "StatusResult", "How far work is; status gives its JSON as a dict.")
      .json();
  Result<PulledModel>(
      m, "PulledModel",
      "A model or data set in the hub's cache: its `folder`, and files and bytes that "
      "came over the network.")
      .text("id", &PulledModel::id)
      .text("commit", &PulledModel::commit)
      .ro("folder", &PulledModel::folder)
      .ro("files", &PulledModel::files)
      .ro("bytes", &PulledModel::bytes);
  Result<PullResult>(m, "PullResult",
                     "What pull returns: models and data sets, as they were named.")
      .ro("models", &PullResult::models)
      .json();
  Result<PushResult>(
      m, "PushResult",
      "What push returns: the repository's `url` and `commit`, its files, and the bytes "
      "that went over the network.")
      .text("url", &PushResult::url)
      .text("commit", &PushResult::commit)
      .ro("files", &PushResult::files)
      .ro("bytes", &PushResult::bytes)
      .json();
}

}  // namespace

void bind_results(nb::module_& module) {
  bind_costs(module);
  bind_proofs(module);
  bind_merging(module);
  bind_evaluation(module);
  bind_report_and_tune(module);
  bind_adapters(module);
  bind_folders(module);
}

}  // namespace lewis_python
