// lewis extract BASE MODEL -o ADAPTER: a LoRA adapter that makes MODEL of BASE.
#include <fmt/format.h>
#include <lewis/adapters.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "base/chosen_word.h"
#include "base/human.h"
#include "cli/table.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

struct ExtractArguments {
  ExtractJob job;
  std::string ranks = "auto", max_memory;
  std::shared_ptr<CommonOptions> common;
};

// The layers of one projection together.
struct Projection {
  size_t layers = 0;
  int64_t least = INT64_MAX, most = 0;  // rank
  double squares = 0, residual = 0;
  double error() const { return squares > 0 ? std::sqrt(residual / squares) : 0; }
};

std::map<std::string, Projection> projections_of(const ExtractResult& adapter) {
  std::map<std::string, Projection> all;
  for (const ExtractedModule& layer : adapter.layers) {
    const double squares = layer.change * layer.change;
    Projection& p = all[layer.module.substr(layer.module.rfind('.') + 1)];
    ++p.layers;
    p.least = std::min(p.least, layer.rank);
    p.most = std::max(p.most, layer.rank);
    p.squares += squares;
    p.residual += squares * layer.error * layer.error;
  }
  return all;
}

void print(const ExtractResult& adapter) {
  Table table(
      {{"projection", Align::kLeft}, {"layers"}, {"rank"}, {"share of the change"}, {"error"}});
  double all = 0;
  for (const ExtractedModule& layer : adapter.layers) all += layer.change * layer.change;
  for (const auto& [name, p] : projections_of(adapter)) {
    const std::string ranks =
        p.least == p.most ? std::to_string(p.most) : fmt::format("{} to {}", p.least, p.most);
    table.add({name, std::to_string(p.layers), ranks,
               fmt::format("{:.1f} %", all > 0 ? 100 * p.squares / all : 0),
               fmt::format("{:.3g} %", 100 * p.error())});
  }
  if (!adapter.layers.empty()) write_out("{}\n", table.text(Terminal::of(STDOUT_FILENO)));
  const bool weighted = std::ranges::any_of(adapter.layers, &ExtractedModule::weighted);
  write_out(
      "{}: {} linear layers by factors, {} modules whole, {} tensors as in the base; {} numbers, "
      "{}; "
      "error {:.3g} % of the change{}\n",
      adapter.out.string(),
      std::ranges::count_if(adapter.layers, [](const auto& l) { return l.rank > 0; }),
      adapter.saved.size(), adapter.equal_tensors, with_commas(adapter.numbers),
      human_bytes(adapter.bytes), 100 * adapter.error,
      weighted ? ", inputs weighted by the text" : "");
}

void run_extract(ExtractArguments& o) {
  static constexpr std::array<std::string_view, 2> kRanks = {"auto", "uniform"};
  o.job.uniform_ranks = chosen_word("--ranks", o.ranks, kRanks) == 1;
  if (!o.max_memory.empty())
    o.job.text.guidance.max_memory = parse_bytes(o.max_memory, "--max-memory");
  if (o.job.base_name.empty() && !std::filesystem::exists(o.job.base))
    o.job.base_name = o.job.base.string();  // an id of the hub
  make_local(o.job.base, *o.common);
  make_local(o.job.model, *o.common);
  make_data_local(o.job.text.data, *o.common);
  ProgressPrinter progress(o.common->quiet);
  const ExtractResult adapter = extract(o.job, run_context(*o.common, progress));
  if (o.common->json) {
    write_json_text(json_text(adapter));
  } else {
    print(adapter);
  }
}

}  // namespace

void add_extract_verb(CLI::App& app) {
  auto o = std::make_shared<ExtractArguments>();
  CLI::App* verb = app.add_subcommand("extract", "A LoRA adapter that makes one model of another");
  verb->add_option("BASE", o->job.base, "Model folder or id")->required();
  verb->add_option("MODEL", o->job.model,
                   "A model fine-tuned from it, or a recipe, perhaps of adapters on it")
      ->required();
  verb->add_option("-o,--out", o->job.out, "Folder of the adapter, as PEFT loads it")->required();
  verb->add_option("--rank", o->job.rank, "Size: that of this rank in every linear layer");
  verb->add_option("--error", o->job.error, "Or the largest error, as a share of the change (0.1)");
  verb->add_option("--ranks", o->ranks,
                   "auto (default): where they lessen the error most; uniform: one rank");
  verb->add_option("--dtype", o->job.dtype, "Of the factors: float32 (default), bfloat16, float16");
  verb->add_option("--statistics", o->job.statistics,
                   "Statistics of lewis calibrate, so that the error of outputs is least");
  verb->add_option("--data", o->job.text.data, "Or text to calibrate MODEL on");
  verb->add_option("--format", o->job.text.format, "Of the text (as in calibrate)");
  verb->add_option("--samples", o->job.text.samples, "Texts to take (0: all)");
  verb->add_option("--seed", o->job.seed, "Of the random start");
  verb->add_option("--base-model-id", o->job.base_name, "What the adapter calls its base");
  verb->add_flag("--dora", o->job.dora,
                 "With the magnitudes of DoRA: norms of MODEL's rows beside the factors");
  verb->add_flag("--partial", o->job.partial,
                 "Leave out changed tensors that an adapter cannot hold");
  verb->add_flag("--force", o->job.force, "Replace an adapter at OUT");
  verb->add_option("--cache", o->job.text.guidance.cache, "Folder of the statistics' cache");
  verb->add_option("--max-memory", o->max_memory, "Bytes of memory of the calibration");
  add_compute_option(*verb, o->job.text.guidance.compute);
  add_lenient_option(*verb, o->job.unknown_keys);
  o->common = add_common_options(*verb);
  verb->callback([o] { run_extract(*o); });
}

}  // namespace lewis
