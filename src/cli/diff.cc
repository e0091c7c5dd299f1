// lewis diff A B: how two models differ, tensor by tensor and layer by layer.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "app/gguf/import.h"
#include "app/model_difference.h"
#include "base/json.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "io/plain_source.h"

namespace lewis {
namespace {

struct DiffArguments {
  std::filesystem::path a, b;
  size_t top = 20;
  std::shared_ptr<CommonOptions> common;
};

Json to_json(const TensorDifference& d) {
  return {{"relative_change", d.relative()},
          {"cosine", d.cosine()},
          {"equal_share", d.equal_share()},
          {"elements", d.count}};
}

Json to_json(const ModelDifference& d) {
  Json tensors = Json::object(), layers = Json::object();
  for (const auto& [name, difference] : d.tensors) tensors[name] = to_json(difference);
  for (const auto& [layer, difference] : d.layers) {
    layers[d.name_of(layer)] = to_json(difference);
  }
  return {
      {"all", to_json(d.all)},         {"layers", layers},      {"tensors", tensors},
      {"only_in_a", d.only_a},         {"only_in_b", d.only_b}, {"compared_by_bytes", d.by_bytes},
      {"not_compared", d.not_compared}};
}

PlainModel open_plain(const std::filesystem::path& folder) {
  if (is_gguf_path(folder)) {
    InputModel model = open_gguf(folder);
    return {std::move(model.source), std::move(model.notes)};
  }
  return show_plain(std::make_shared<const Checkpoint>(Checkpoint::open(folder)));
}

std::vector<TerminalText> cells(const std::string& name, const TensorDifference& d) {
  return {name, fmt::format("{:.3e}", d.relative()), fmt::format("{:.8f}", d.cosine()),
          fmt::format("{:.1f} %", 100 * d.equal_share())};
}

void print_difference(const ModelDifference& d, size_t top) {
  const Terminal terminal = Terminal::of(STDOUT_FILENO);
  const std::vector<Table::Column> columns = {
      {"tensor", Align::kLeft}, {"|B - A| / |A|"}, {"cosine"}, {"equal"}};
  Table tensors(columns);
  for (size_t i = 0; i < std::min(top, d.tensors.size()); ++i) {
    tensors.add(cells(d.tensors[i].name, d.tensors[i].difference));
  }
  write_out("{}", tensors.text(terminal));
  if (top < d.tensors.size()) write_out("and {} more (--top 0: all)\n", d.tensors.size() - top);
  Table layers({{"layer", Align::kLeft}, columns[1], columns[2], columns[3]});
  for (const auto& [layer, difference] : d.layers) {
    layers.add(cells(d.name_of(layer), difference));
  }
  layers.add_line();
  layers.add(cells("all", d.all));
  write_out("\n{}", layers.text(terminal));
  for (const std::string& name : d.only_a) write_out("only in A: {}\n", name);
  for (const std::string& name : d.only_b) write_out("only in B: {}\n", name);
  for (const std::string& line : d.by_bytes) write_out("by their bytes: {}\n", line);
  for (const std::string& line : d.not_compared) write_out("not compared: {}\n", line);
}

}  // namespace

void add_diff_verb(CLI::App& app) {
  auto o = std::make_shared<DiffArguments>();
  CLI::App* verb = app.add_subcommand("diff", "How two models differ, tensor by tensor");
  verb->add_option("A", o->a, "Model folder or GGUF file")->required();
  verb->add_option("B", o->b, "Model folder or GGUF file")->required();
  verb->add_option("--top", o->top, "Tensors to show, most changed first (0: all)");
  o->common = add_common_options(*verb);
  verb->callback([o] {
    make_local(o->a, *o->common);
    make_local(o->b, *o->common);
    Threads threads(o->common->threads);
    ProgressPrinter progress(o->common->quiet);
    const PlainModel a = open_plain(o->a), b = open_plain(o->b);
    for (const PlainModel* model : {&a, &b}) {
      for (const std::string& note : model->notes) write_err("lewis: note: {}\n", note);
    }
    const ModelDifference d =
        compare_models(*a.source, *b.source, threads, interruptible(progress));
    if (o->common->json) {
      write_json(to_json(d));
    } else {
      print_difference(d, o->top ? o->top : d.tensors.size());
    }
  });
}

}  // namespace lewis
