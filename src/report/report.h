// The content of a report as plain data, and its two products: one page, and the figures as files.
// Texts may come from checkpoints and recipes. They are escaped where they are written, never
// before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace lewis {

// The way in which a number is shown.
enum class Unit { kPlain, kPercent };

// One measure of one model, or of a pair of models, layer by projection.
struct HeatMap {
  std::string title;                                      // "math"
  std::vector<std::vector<std::optional<double>>> cells;  // [projections, layers]
};

// One measure: one map per model, all on one scale.
struct HeatMaps {
  std::string name;         // used in file names: "density"
  std::string title;        // "Density"
  std::string explanation;  // what the number is and how to read it; one or two sentences
  Unit unit = Unit::kPlain;
  // If set, the scale diverges around this value; otherwise it runs from the smallest value to the
  // largest.
  std::optional<double> centre;
  std::vector<std::string> projections;
  std::vector<int64_t> layers;
  std::vector<HeatMap> maps;
};

// The part that a model has in the merge.
enum class Role { kBase, kExpert, kOther, kMerged };

struct Score {
  std::string model;
  Role role = Role::kOther;
  double value = 0, low = 0, high = 0;  // 95 % interval of the model's own score
};

enum class ScoreVerdict { kBetter, kWorse, kNotShown };

// The merged model compared with another one, item by item.
struct ScoreComparison {
  std::string against;
  double difference = 0, low = 0, high = 0;  // merged - other; 95 % interval
  ScoreVerdict verdict = ScoreVerdict::kNotShown;
  std::string unit;  // follows the numbers if it is not the score's own: "in log perplexity"
};

// One metric of one task.
struct ScorePanel {
  std::string task, metric;
  uint64_t items = 0;
  bool higher_is_better = false;
  Unit unit = Unit::kPlain;
  std::vector<Score> scores;  // in the order in which they are shown
  std::vector<ScoreComparison> comparisons;
};

struct Phase {
  std::string name;
  double begin = 0, end = 0;  // seconds since the run began
};
struct MemorySample {
  double second = 0;
  uint64_t bytes = 0;
};

// The run over time.
struct RunChart {
  std::vector<Phase> phases;
  std::vector<MemorySample> memory;
  double seconds = 0;
  uint64_t peak_memory = 0;
  uint64_t memory_budget = 0;  // 0 if none was given
};

// The way in which a tensor was made. kTakenOver: by an earlier run of the same merge.
enum class Fate { kMerged, kRefined, kCopied, kTakenOver };

struct TensorLine {
  std::string name, dtype, shape;
  uint64_t elements = 0;
  Fate fate = Fate::kMerged;
};

struct Fact {
  std::string label, value;
  bool code = false;  // a hash or a path, shown in a monospaced font
};

// A small table of numbers that are already formatted; its first column names the rows.
struct NumberTable {
  std::string title, note;
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};

// A large number at the top of the page: "1.7 M", "parameters".
struct KeyFigure {
  std::string value, label;
};

struct Report {
  std::string title;    // the name of the merged model
  std::string summary;  // one or two sentences
  std::vector<KeyFigure> key_figures;
  std::vector<std::string> warnings;  // warnings of the merge
  std::vector<std::string> missing;   // parts that could not be shown, and the reasons
  std::vector<ScorePanel> scores;
  std::vector<NumberTable> tables;  // shown before the measures
  std::vector<NumberTable> proofs;  // that adapters are in the model, one per adapter
  std::vector<HeatMaps> measures;
  std::optional<RunChart> run;
  std::vector<TensorLine> tensors;
  std::vector<Fact> models;      // the merged models, with fingerprints
  std::vector<Fact> provenance;  // version, seed, machine, times
  std::string recipe;            // its original text
};

// Returns one self-contained HTML page: it has no script, uses no network, and its
// Content-Security-Policy allows its own style alone.
std::string report_html(const Report& report);

// A figure as a separate file for papers, with a light background and common fonts.
struct Figure {
  std::string name;  // "density-math": letters, digits and hyphens
  std::string svg;
};
std::vector<Figure> report_figures(const Report& report);

}  // namespace lewis
