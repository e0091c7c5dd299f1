#include "app/running_model.h"

#include "app/tokenizers.h"
#include "base/error.h"
#include "plan/plan.h"
#include "text/formats/guess.h"

namespace lewis {

std::unique_ptr<RunningModel> RunningModel::open(const RecipeModel& model, Threads& threads,
                                                 bool needs_tokenizer, ComputeType type) {
  return open(open_input(model, open_options(threads)), threads, needs_tokenizer, type);
}

std::unique_ptr<RunningModel> RunningModel::open(InputModel input, Threads& threads,
                                                 bool needs_tokenizer, ComputeType type) {
  auto model =
      std::make_unique<RunningModel>(RunningModel{std::move(input), nullptr, nullptr, {}, {}});
  const ModelFiles files = model->input.files();
  model->backend = make_cpu_backend(threads, type);
  model->transformer = std::make_unique<Transformer>(*model->input.source, spec_of(model->input),
                                                     *model->backend, threads);
  if (files.read("tokenizer.json")) {
    model->tokenizer = Tokenizer::load(files);
    model->stop_ids = model->tokenizer->stop_ids();
  } else if (needs_tokenizer) {
    throw input_error(
        "{}: tokenizer.json is missing; without it only data of format ids can be used",
        files.folder.string());
  }
  return model;
}

RecipeModel model_in(const std::filesystem::path& path, UnknownKeys unknown) {
  RecipeModel model;
  model.model = path.string();
  if (std::filesystem::is_regular_file(path) && !is_gguf_path(path)) {
    model.stage = std::make_shared<const Recipe>(read_recipe(path, unknown));
    check_plan_settings(*model.stage);
  } else {
    model.folder = path;
  }
  return model;
}

ModelSpec spec_of(const InputModel& model) {
  const std::string file = (model.folder / "config.json").string();
  if (model.config_text.empty()) throw input_error("{}: is missing", file);
  return read_model_spec(*model.config, file);
}

DataFormat format_of(const std::filesystem::path& data, std::optional<DataFormat> format) {
  if (format) return *format;
  return guess_format(data);
}

}  // namespace lewis
