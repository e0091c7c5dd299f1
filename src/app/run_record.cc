#include "app/run_record.h"

#include <fmt/chrono.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <thread>

#include "app/proof_json.h"
#include "base/build.h"
#include "base/error.h"
#include "base/json.h"
#include "base/model_files.h"
#include "refine/result_json.h"

namespace lewis {
namespace {

constexpr const char* kFormat = "lewis-run-1";
constexpr size_t kMostSamples = 400;

uint64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  uint64_t size = 0, resident = 0;
  statm >> size >> resident;
  return resident * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t peak_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<uint64_t>(usage.ru_maxrss) * 1024;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "";
}

Json chart_json(const RunChart& chart) {
  Json phases = Json::array(), memory = Json::array();
  for (const Phase& p : chart.phases)
    phases.push_back({{"name", p.name}, {"begin", p.begin}, {"end", p.end}});
  for (const MemorySample& m : chart.memory) memory.push_back({m.second, m.bytes});
  return {{"seconds", chart.seconds},
          {"phases", phases},
          {"memory", memory},
          {"peak_memory", chart.peak_memory},
          {"max_memory", chart.memory_budget}};
}

RunChart chart_of(const Json& json) {
  RunChart chart;
  chart.seconds = json.at("seconds").get<double>();
  chart.peak_memory = json.at("peak_memory").get<uint64_t>();
  chart.memory_budget = json.at("max_memory").get<uint64_t>();
  for (const Json& p : json.at("phases")) {
    chart.phases.push_back(
        {p.at("name").get<std::string>(), p.at("begin").get<double>(), p.at("end").get<double>()});
  }
  for (const Json& m : json.at("memory"))
    chart.memory.push_back({m.at(0).get<double>(), m.at(1).get<uint64_t>()});
  return chart;
}

Json merge_json(const MergeReport& m) {
  return {{"merged", m.merged},
          {"copied", m.copied},
          {"refined", m.refined},
          {"resumed", m.resumed},
          {"parameters", m.parameters},
          {"bytes_read", m.bytes_read},
          {"bytes_written", m.bytes_written},
          {"shards", m.shards},
          {"copied_tensors", m.copied_tensors},
          {"refined_tensors", m.refined_tensors},
          {"resumed_tensors", m.resumed_tensors},
          {"warnings", m.warnings}};
}

MergeReport merge_of(const Json& json) {
  MergeReport m;
  m.merged = json.at("merged").get<uint64_t>();
  m.copied = json.at("copied").get<uint64_t>();
  m.refined = json.at("refined").get<uint64_t>();
  m.resumed = json.at("resumed").get<uint64_t>();
  m.parameters = json.at("parameters").get<uint64_t>();
  m.bytes_read = json.at("bytes_read").get<uint64_t>();
  m.bytes_written = json.at("bytes_written").get<uint64_t>();
  m.shards = json.at("shards").get<uint64_t>();
  m.copied_tensors = json.at("copied_tensors").get<std::vector<std::string>>();
  m.refined_tensors = json.at("refined_tensors").get<std::vector<std::string>>();
  m.resumed_tensors = json.at("resumed_tensors").get<std::vector<std::string>>();
  m.warnings = json.at("warnings").get<std::vector<std::string>>();
  return m;
}

Json to_json(const RefineReport& report) {
  Json blocks = Json::array();
  for (const BlockResult& b : report.blocks) blocks.push_back(to_json(b));
  return {{"layers", report.layers},
          {"tokens", report.tokens},
          {"held_out", report.held_out},
          {"blocks", blocks}};
}

RefineReport refine_report_of(const Json& json) {
  RefineReport report;
  report.layers = json.at("layers").get<int64_t>();
  report.tokens = json.at("tokens").get<uint64_t>();
  report.held_out = json.at("held_out").get<uint64_t>();
  for (const Json& b : json.at("blocks")) report.blocks.push_back(block_result_of(b));
  if (report.layers < 0 || report.layers > static_cast<int64_t>(report.blocks.size()))
    throw std::runtime_error("blocks are missing");
  return report;
}

RunRecord record_of(const Json& json) {
  if (json.at("format") != kFormat) throw std::runtime_error("another format");
  RunRecord r;
  r.version = json.at("lewis_version").get<std::string>();
  r.recipe_file = json.at("recipe_file").get<std::string>();
  r.recipe = json.at("recipe").get<std::string>();
  r.model_ids = json.value("model_ids", r.model_ids);
  r.begun = json.at("begun").get<std::string>();
  const Json& machine = json.at("machine");
  r.system = machine.at("system").get<std::string>();
  r.processor = machine.at("processor").get<std::string>();
  r.machine_memory = machine.at("memory").get<uint64_t>();
  r.cores = machine.at("cores").get<uint64_t>();
  r.threads = json.at("threads").get<uint64_t>();
  r.compute = json.at("compute").get<std::string>();
  r.chart = chart_of(json.at("run"));
  r.merge = merge_of(json.at("merge"));
  r.settings = json.at("settings").get<std::string>();
  for (const Json& g : json.at("guidance")) {
    r.guidance.push_back({g.at("model").get<std::string>(), g.at("data").get<std::string>(),
                          g.at("importance").get<LayerValues>(),
                          g.at("density").get<LayerValues>()});
  }
  if (const auto passes = json.find("refinement"); passes != json.end()) {
    for (const Json& pass : *passes) r.refinement.push_back(refine_report_of(pass));
  }
  if (const auto proofs = json.find("proofs"); proofs != json.end()) {
    for (const Json& proof : *proofs) r.proofs.push_back(adapter_proof_of(proof));
  }
  return r;
}

}  // namespace

Json to_json(const RunRecord& r) {
  Json guidance = Json::array();
  for (const GuidanceRecord& g : r.guidance) {
    guidance.push_back({{"model", g.model},
                        {"data", g.data},
                        {"importance", g.importance},
                        {"density", g.density}});
  }
  Json json = {{"format", kFormat},
               {"lewis_version", r.version},
               {"recipe_file", r.recipe_file},
               {"recipe", r.recipe},
               {"model_ids", r.model_ids},
               {"begun", r.begun},
               {"machine",
                {{"system", r.system},
                 {"processor", r.processor},
                 {"memory", r.machine_memory},
                 {"cores", r.cores}}},
               {"threads", r.threads},
               {"compute", r.compute},
               {"run", chart_json(r.chart)},
               {"merge", merge_json(r.merge)},
               {"settings", r.settings},
               {"guidance", guidance}};
  for (const AdapterProof& proof : r.proofs) json["proofs"].push_back(to_json(proof));
  for (const RefineReport& pass : r.refinement) json["refinement"].push_back(to_json(pass));
  return json;
}

RunRecord read_run_record(const std::filesystem::path& file) {
  const Json json = parse_json(read_model_file(file.parent_path(), file.filename()), file.string());
  try {
    return record_of(json);
  } catch (const std::exception&) {
    throw input_error("{}: is no record of a run ({})", file.string(), kFormat);
  }
}

RunClock::RunClock()
    : begun_text_(fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)))) {}

double RunClock::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count();
}

void RunClock::sample(double second) {
  if (!memory_.empty() && second < memory_.back().second + pause_) return;
  memory_.push_back({second, resident_bytes()});
  if (memory_.size() < kMostSamples) return;
  for (size_t i = 0; 2 * i < memory_.size(); ++i) memory_[i] = memory_[2 * i];
  memory_.resize((memory_.size() + 1) / 2);
  pause_ *= 2;
}

ProgressFn RunClock::watch(ProgressFn next) {
  return [this, next = std::move(next)](const Progress& p) {
    const double second = now();
    sample(second);
    if (phases_.empty() || phases_.back().name != p.what)
      phases_.push_back({p.what, phases_.empty() ? 0 : phases_.back().end, second});
    phases_.back().end = second;
    if (next) next(p);
  };
}

void RunClock::end_phase(const std::string& name) {
  const double second = now();
  sample(second);
  phases_.push_back({name, phases_.empty() ? 0 : phases_.back().end, second});
}

void RunClock::fill(RunRecord& r) const {
  r.version = version_and_build();
  r.begun = begun_text_;
  utsname names{};
  uname(&names);
  r.system = fmt::format("{} {} {}", names.sysname, names.release, names.machine);
  r.processor = processor_name();
  r.machine_memory =
      static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  r.cores = std::thread::hardware_concurrency();
  r.chart.phases = phases_;
  r.chart.memory = memory_;
  r.chart.seconds = now();
  r.chart.peak_memory = peak_bytes();
}

}  // namespace lewis
