#include "cli/running_model.h"

#include "base/error.h"

namespace lewis {

std::unique_ptr<RunningModel> RunningModel::open(const std::filesystem::path& folder,
                                                 Threads& threads, bool needs_tokenizer) {
  auto model = std::make_unique<RunningModel>(
      RunningModel{Checkpoint::open(folder), nullptr, nullptr, {}, {}});
  const ModelSpec spec =
      read_model_spec(model->checkpoint.config(), (folder / "config.json").string());
  model->backend = make_cpu_backend(threads);
  model->transformer =
      std::make_unique<Transformer>(model->checkpoint, spec, *model->backend, threads);
  if (std::filesystem::exists(folder / "tokenizer.json")) {
    model->tokenizer = Tokenizer::load(folder);
    model->stop_ids = model->tokenizer->stop_ids();
  } else if (needs_tokenizer) {
    throw input_error(
        "{}: tokenizer.json is missing; without it only data of format ids can be used",
        folder.string());
  }
  return model;
}

std::string format_of(const std::filesystem::path& data, const std::string& format) {
  if (!format.empty()) return format;
  if (data.extension() == ".txt" || data.extension() == ".md") return "text";
  throw usage_error(
      "{}: the format cannot be told from the ending; give --format (or `format:` in the recipe)",
      data.string());
}

}  // namespace lewis
