#include "merge/input_model.h"

#include "base/error.h"
#include "base/text_file.h"
#include "io/checkpoint.h"
#include "merge/merged_source.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// Packed integers cannot be merged; float8 goes by name, as other types that arithmetic does not
// know.
void refuse_packed(const InputModel& model) {
  const auto found = model.config.find("quantization_config");
  if (found == model.config.end() || !found->is_object()) return;
  const std::string method = found->contains("quant_method") && (*found)["quant_method"].is_string()
                                 ? (*found)["quant_method"].get<std::string>()
                                 : "";
  for (const char* packed :
       {"awq", "gptq", "bitsandbytes", "hqq", "aqlm", "quip", "eetq", "quanto"}) {
    if (method != packed) continue;
    throw input_error(
        "{}: is quantised ({}): its weights are packed integers; merge the model that "
        "it was made from",
        model.label(), method);
  }
}

InputModel open_folder(const fs::path& folder) {
  InputModel model;
  const auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(folder));
  model.source = checkpoint;
  model.folder = folder;
  model.fingerprint = [checkpoint] { return checkpoint->fingerprint(); };
  if (fs::exists(folder / "config.json")) {
    model.config_text = read_text_file(folder / "config.json");
    model.config = checkpoint->config();
  }
  refuse_packed(model);
  return model;
}

}  // namespace

InputModel open_input(const RecipeModel& model, const OpenOptions& options) {
  InputModel opened = model.stage ? open_stage(*model.stage, options) : open_folder(model.folder);
  opened.name = model.model;
  if (!model.adapter.empty()) {
    throw usage_error("{}: adapters are not supported yet", model.model);
  }
  return opened;
}

}  // namespace lewis
