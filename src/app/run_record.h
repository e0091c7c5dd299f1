// The record of a run, which is written beside its model: OUT/lewis_run.json. The report reads it.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <lewis/proof.h>

#include "base/json_fwd.h"
#include "base/progress.h"
#include "merge/engine.h"
#include "plan/plan.h"
#include "refine/refine.h"
#include "report/report.h"

namespace lewis {

// The importances and densities that LEWIS found for one model.
struct GuidanceRecord {
  std::string model;  // as OUT's recipe names it (merge/public_names.h)
  std::string data;   // the text that it was calibrated on
  LayerValues importance, density;
};

struct RunRecord {
  // recipe_file: its name without a folder. recipe: its text as the user wrote it, but for the
  // names of models and data, which are public ones.
  std::string version, recipe_file, recipe;
  std::map<std::string, std::string> model_ids;  // that the user gave for folders
  std::string begun;                             // "2026-11-24T22:47:48Z"
  std::string system, processor;                 // "Linux 6.1.0 x86_64"
  uint64_t machine_memory = 0, cores = 0, threads = 0;
  std::string compute;  // "f32", "bf16": type of the calibration; empty: no calibration ran
  RunChart chart;
  MergeReport merge;
  std::string settings;  // of the guidance, in words; "" without guidance
  std::vector<GuidanceRecord> guidance;
  std::vector<AdapterProof> proofs;      // of adapters; empty where none was asked for
  std::vector<RefineReport> refinement;  // of each pass; empty where nothing was refined
};

Json to_json(const RunRecord& record);
// Error(kInput) that names the file when it is no record of a run.
RunRecord read_run_record(const std::filesystem::path& file);

// Watches a run: when its phases begin and end, how much memory it takes meanwhile.
class RunClock {
 public:
  RunClock();
  // Passes progress on to `next`. Successive pieces of work of one name form a phase. The clock
  // must outlive the returned function.
  ProgressFn watch(ProgressFn next);
  // Ends a phase that began when the last one ended.
  void end_phase(const std::string& name);
  // Writes the run so far and the machine into the record.
  void fill(RunRecord& record) const;
  double now() const;  // seconds since the run began

 private:
  void sample(double second);

  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  std::string begun_text_;
  std::vector<Phase> phases_;
  std::vector<MemorySample> memory_;
  double pause_ = 0.002;  // between samples; doubles when there are too many
};

}  // namespace lewis
