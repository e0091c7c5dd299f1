// lewis check RECIPE: all that can be known before the weights are read, and whether the models
// descend from the base at all.
#include "app/check.h"

#include <fmt/format.h>

#include "app/output_weights.h"
#include "base/json.h"
#include "cli/verbs.h"

namespace lewis {
namespace {

struct CheckArguments {
  std::filesystem::path recipe;
  UnknownKeys unknown = UnknownKeys::kRefused;
  bool stream = false;
  std::shared_ptr<CommonOptions> common;
};

Json check_json(const std::filesystem::path& recipe, const RecipeCheck& check) {
  Json models = Json::array();
  for (const RecipeCheck::Model& m : check.models) {
    Json line = {{"model", m.name}, {"bytes", m.bytes}};
    if (m.cosine_to_base) {
      line["cosine_to_base"] = *m.cosine_to_base;
      line["relative_task_vector"] = *m.relative_task_vector;
    }
    models.push_back(std::move(line));
  }
  Json json = {{"recipe", recipe.string()},
               {"tensors", check.tensors},
               {"models", models},
               {"warnings", check.warnings}};
  for (const OutputWeights& output : check.outputs) json["outputs"].push_back(to_json(output));
  return json;
}

void print_check(const std::filesystem::path& recipe, const RecipeCheck& check) {
  for (const RecipeCheck::Model& m : check.models) {
    TerminalText line = terminal_text("{}: {}", m.name, human_bytes(m.bytes));
    if (m.cosine_to_base) {
      line += terminal_text(", cosine to the base {:.6f}, task vector {:.2f} % of its length",
                            *m.cosine_to_base, 100 * *m.relative_task_vector);
    }
    write_out("{}\n", line);
  }
  if (check.vocabulary > 0)
    write_out("another tokenizer, with {} rows of embeddings\n", check.vocabulary);
  for (const OutputWeights& output : check.outputs)
    write_out("output {}: {}\n", output.name, output.words);
  for (const std::string& w : check.warnings) write_out("warning: {}\n", w);
  write_out("{}: can be merged, {} tensors\n", recipe.string(), check.tensors);
}

}  // namespace

void add_check_verb(CLI::App& app) {
  auto o = std::make_shared<CheckArguments>();
  CLI::App* verb = app.add_subcommand("check", "Check a recipe and its models without merging");
  verb->add_option("RECIPE", o->recipe, "mergekit recipe")->required();
  verb->add_flag("--stream", o->stream,
                 "Read from the hub what is needed of its models, and store no weights");
  add_lenient_option(*verb, o->unknown);
  o->common = add_common_options(*verb);
  verb->callback([o] {
    if (!o->stream) make_local(o->recipe, *o->common);
    Threads threads(o->common->threads);
    ProgressPrinter progress(o->common->quiet);
    const RecipePtr recipe = o->stream ? open_streamed(o->recipe, o->unknown, stream_options(),
                                                       run_context(*o->common, progress))
                                       : open_recipe(o->recipe, o->unknown);
    const RecipeCheck check = check_recipe(*recipe, threads);
    if (o->common->json) {
      write_json(check_json(o->recipe, check));
    } else {
      print_check(o->recipe, check);
    }
  });
}

}  // namespace lewis
