#include "app/report_contents.h"

#include <algorithm>
#include <map>

#include "app/eval_scores.h"
#include "app/measures.h"
#include "app/proof_json.h"
#include "app/refinement_page.h"
#include "app/totals.h"
#include "base/error.h"
#include "base/human.h"
#include "base/model_files.h"
#include "base/path_words.h"
#include "io/checkpoint.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// "math" for "demo/models/math": as short as tells the models of this merge apart.
class ModelTitles {
 public:
  // `names`: public ones; `public_names` may be null.
  ModelTitles(const std::vector<std::string>& names, const PublicNames* public_names)
      : names_(names), public_names_(public_names) {
    const std::vector<fs::path> paths(names.begin(), names.end());
    titles_ = short_names(paths);
  }
  std::string of(const std::string& model) const {
    const std::string name = public_names_ ? public_names_->of(model) : model;
    const auto it = std::ranges::find(names_, name);
    return it == names_.end() ? name : titles_[static_cast<size_t>(it - names_.begin())];
  }
  std::vector<std::string> of(const std::vector<std::string>& names) const {
    std::vector<std::string> titles;
    for (const std::string& name : names) titles.push_back(of(name));
    return titles;
  }

 private:
  std::vector<std::string> names_, titles_;
  const PublicNames* public_names_;
};

std::vector<std::string> source_names(const Findings& f) {
  std::vector<std::string> names;
  for (const auto& [model, _] : f.about.sources) names.push_back(model);
  return names;
}

// The densities of the linear layers that the recipe has, model by model.
std::vector<ModuleValues> densities_of(const Findings& f, const ModelTitles& titles) {
  std::vector<ModuleValues> models;
  if (f.record) {
    for (const GuidanceRecord& g : f.record->guidance)
      models.push_back({titles.of(g.model), g.density});
  }
  if (!models.empty() || !f.inputs) return models;
  std::map<std::string, LayerValues> found;
  std::vector<std::string> order;
  for (const OutputTensor& t : f.inputs->tensors()) {
    const MergeInputs& part =
        f.inputs->modules().empty() ? *f.inputs : *f.inputs->modules()[t.module];
    if (!t.merged || t.info.shape.size() < 2 || !tensor_layer(t.info.name) || t.base_alone ||
        !part.method().reads("density"))
      continue;
    const TensorTask task = f.inputs->task(t);
    for (size_t m = 0; m < t.models.size(); ++m) {
      const std::string& name = part.recipe().models[t.models[m].model].model;
      if (!found.contains(name)) order.push_back(name);
      std::string module = t.info.name;
      if (module.ends_with(".weight")) module.resize(module.size() - 7);
      found[name][module] = task.models[m]["density"];
    }
  }
  for (const std::string& name : order) models.push_back({titles.of(name), found[name]});
  return models;
}

std::vector<HeatMaps> measures_of(const Findings& f, const ModelTitles& titles) {
  std::vector<HeatMaps> measures;
  if (f.record && !f.record->guidance.empty()) {
    std::vector<ModuleValues> importance;
    for (const GuidanceRecord& g : f.record->guidance)
      importance.push_back({titles.of(g.model), g.importance});
    measures.push_back(importance_measure(importance));
  }
  if (auto densities = densities_of(f, titles); !densities.empty())
    measures.push_back(density_measure(densities));
  if (f.diagnostics) {
    for (HeatMaps& m : diagnostic_measures(*f.diagnostics, titles.of(f.diagnostics->models)))
      measures.push_back(std::move(m));
  }
  if (!f.errors.empty()) {
    std::vector<ModuleValues> errors = f.errors;
    for (ModuleValues& e : errors) e.title = titles.of(e.title);
    measures.push_back(activation_error_measure(errors));
  }
  if (f.record) measures.push_back(refinement_measure(f.record->refinement));
  std::erase_if(measures, [](const HeatMaps& m) { return m.layers.empty(); });
  return measures;
}

// All tensors together: a table of task vectors, and one of pairs of them.
std::vector<NumberTable> totals_tables(const MergeDiagnostics& d, const ModelTitles& titles) {
  const std::vector<std::string> names = titles.of(d.models);
  const TotalsTable models = task_vector_table(d, names), pairs = pair_table(d, names);
  std::vector<NumberTable> tables = {
      {"The task vectors as a whole",
       "Over all tensors, embeddings and norms included. Size: relative to the base's norm; "
       "changed: "
       "entries that differ from the base; kept: those of them that trimming leaves; dropped: the "
       "squared norm of the others; in the merge: the share of the task vector that the result "
       "has.",
       models.head, models.rows}};
  if (names.size() > 1) {
    tables.push_back(
        {"Pairs of experts",
         "Sign conflict: of the entries that both change, the share that they push in opposite "
         "directions; unrelated task vectors have 50 % and a cosine of 0.",
         pairs.head, pairs.rows});
  }
  return tables;
}

std::vector<TensorLine> tensors_of(const ReportJob& o, const Findings& f) {
  std::map<std::string, Fate> fates;  // of those that were not merged
  const auto add = [&](const std::vector<std::string>& names, Fate fate) {
    for (const std::string& name : names) fates[name] = fate;
  };
  if (f.record) {
    add(f.record->merge.copied_tensors, Fate::kCopied);
    add(f.record->merge.refined_tensors, Fate::kRefined);
    add(f.record->merge.resumed_tensors, Fate::kTakenOver);
  }
  std::vector<TensorLine> lines;
  const Checkpoint merged = Checkpoint::open(o.out);
  for (const TensorInfo& t : merged.tensors()) {
    const auto found = fates.find(t.name);
    const Fate fate = found == fates.end() ? Fate::kMerged : found->second;
    lines.push_back({t.name, std::string(dtype_name(t.dtype)), to_string(t.shape),
                     static_cast<uint64_t>(element_count(t.shape)), fate});
  }
  return lines;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i)
    text += (i == 0 ? "" : i + 1 == words.size() ? " and " : ", ") + words[i];
  return text;
}

std::string summary_of(const Findings& f, const ModelTitles& titles) {
  if (!f.recipe) return "A merge of " + joined(titles.of(source_names(f))) + ".";
  const Recipe& r = *f.recipe;
  std::vector<std::string> experts;
  if (f.inputs) {
    experts = titles.of(f.inputs->merged_names());
  } else {
    for (const RecipeModel& m : r.models) {
      if (m.model != r.base_model) experts.push_back(titles.of(m.model));
    }
  }
  std::string base = r.base_model ? titles.of(*r.base_model) : "";
  base = base.empty() || std::ranges::find(experts, base) != experts.end() ? "" : " onto " + base;
  const bool guided = f.record && !f.record->guidance.empty();
  return fmt::format("A merge of {}{} by {}. {}", joined(experts), base, r.merge_method,
                     guided ? "LEWIS measured on calibration text how much of each layer to keep."
                            : "Every parameter is as the recipe says: no calibration decided it.");
}

std::string in_words(uint64_t count) {
  const auto n = static_cast<double>(count);
  return n >= 1e9   ? fmt::format("{:.1f} B", n / 1e9)
         : n >= 1e6 ? fmt::format("{:.1f} M", n / 1e6)
                    : with_commas(count);
}

std::vector<KeyFigure> key_figures_of(const Findings& f, const std::vector<TensorLine>& tensors) {
  uint64_t parameters = 0;
  for (const TensorLine& t : tensors) parameters += t.elements;
  std::vector<KeyFigure> figures = {{in_words(parameters), "parameters"},
                                    {with_commas(tensors.size()), "tensors, all accounted for"}};
  if (!f.record) return figures;
  figures.push_back({human_seconds(f.record->chart.seconds), "from start to end"});
  figures.push_back({human_bytes(f.record->chart.peak_memory), "of memory at most"});
  figures.push_back({human_bytes(f.record->merge.bytes_written), "written"});
  return figures;
}

std::vector<Fact> models_of(const Findings& f) {
  std::vector<Fact> facts;
  for (const auto& [model, fingerprint] : f.about.sources)
    facts.push_back({model, fingerprint, true});
  for (const ShardRecord& s : f.manifest.shards)
    facts.push_back({s.name + " (SHA-256)", s.sha256, true});
  facts.push_back({"plan: all that decides the bytes", f.manifest.plan, true});
  return facts;
}

std::vector<Fact> provenance_of(const Findings& f) {
  std::vector<Fact> facts = {{"lewis", f.about.version},
                             {"seed of random masks", std::to_string(f.about.seed)}};
  if (!f.record) return facts;
  const RunRecord& r = *f.record;
  facts.push_back({"recipe", r.recipe_file, true});
  if (!r.settings.empty()) facts.push_back({"guidance", r.settings});
  for (const GuidanceRecord& g : r.guidance)
    facts.push_back({"calibration of " + g.model, g.data, true});
  facts.push_back({"begun", r.begun});
  facts.push_back({"machine", fmt::format("{}; {} of {} cores, {} of memory", r.processor,
                                          r.threads, r.cores, human_bytes(r.machine_memory))});
  facts.push_back({"system", r.system});
  if (!r.compute.empty()) facts.push_back({"linear layers of calibration", r.compute});
  facts.push_back(
      {"read and written", fmt::format("{} and {} in {} shard{}", human_bytes(r.merge.bytes_read),
                                       human_bytes(r.merge.bytes_written), r.merge.shards,
                                       r.merge.shards == 1 ? "" : "s")});
  return facts;
}

// By the folders that the recipe names.
RoleOf roles_of(const ReportJob& o, const Findings& f) {
  const auto same = [](const fs::path& a, const fs::path& b) {
    return !a.empty() && !b.empty() && fs::weakly_canonical(a) == fs::weakly_canonical(b);
  };
  return [&o, &f, same](const std::string& folder) {
    if (same(folder, o.out)) return Role::kMerged;
    for (size_t m = 0; f.recipe && m < f.recipe->models.size(); ++m) {
      if (same(folder, f.recipe->models[m].folder) && f.recipe->models[m].adapter.empty())
        return f.recipe->base_index == m ? Role::kBase : Role::kExpert;
    }
    return Role::kOther;
  };
}

// The page may be published: it has no path of this machine.
void make_public(const PublicNames* names, Report& r) {
  const auto clean = [&](std::string& text) {
    text = names ? names->clean(text) : without_folders(text);
  };
  clean(r.summary);
  for (auto* lines : {&r.warnings, &r.missing}) std::ranges::for_each(*lines, clean);
  for (ScorePanel& panel : r.scores) {
    clean(panel.task);
    for (Score& score : panel.scores) clean(score.model);
    for (ScoreComparison& c : panel.comparisons) clean(c.against);
  }
  for (auto* tables : {&r.tables, &r.proofs}) {
    for (NumberTable& table : *tables) {
      for (auto& row : table.rows) std::ranges::for_each(row, clean);
    }
  }
  for (HeatMaps& measure : r.measures) {
    for (HeatMap& map : measure.maps) clean(map.title);
  }
  for (auto* facts : {&r.models, &r.provenance}) {
    for (Fact& fact : *facts) {
      clean(fact.label);
      clean(fact.value);
    }
  }
}

}  // namespace

Report report_of(const ReportJob& o, Findings& f) {
  const ModelTitles titles(source_names(f), f.names.get());
  Report r;
  fs::path name = fs::weakly_canonical(o.out);
  if (!name.has_filename()) name = name.parent_path();
  r.title = name.filename().string();
  r.summary = summary_of(f, titles);
  r.tensors = tensors_of(o, f);
  r.key_figures = key_figures_of(f, r.tensors);
  r.measures = measures_of(f, titles);
  if (f.diagnostics) r.tables = totals_tables(*f.diagnostics, titles);
  if (f.record) {
    for (NumberTable& table : refinement_tables(f.record->refinement))
      r.tables.push_back(std::move(table));
  }
  if (f.record) {
    for (const AdapterProof& proof : f.record->proofs) r.proofs.push_back(proof_table(proof));
  }
  r.models = models_of(f);
  r.provenance = provenance_of(f);
  if (f.record) {
    r.warnings = f.record->merge.warnings;
    r.run = f.record->chart;
    r.recipe = f.record->recipe;
  } else {
    r.recipe = read_model_file(o.out, "mergekit_config.yml");
  }
  if (o.eval.empty()) {
    f.missing.push_back(
        "Scores: no --eval (`lewis eval MODEL... --output-path FOLDER` writes results)");
  } else {
    r.scores = read_scores(o.eval, roles_of(o, f));
  }
  r.missing = f.missing;
  make_public(f.names.get(), r);
  return r;
}

}  // namespace lewis
