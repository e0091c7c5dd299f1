// The verb convert: a model, or what a recipe merges, as one GGUF file.
#include <lewis/gguf.h>

#include "app/gguf/export.h"
#include "app/gguf/families/architecture.h"
#include "app/gguf/general/general_keys.h"
#include "app/gguf/importances.h"
#include "app/gguf/mix.h"
#include "app/gguf/parts.h"
#include "app/gguf/vocabulary.h"
#include "app/gguf/write_tensors.h"
#include "app/outputs.h"
#include "app/refinement.h"
#include "app/run.h"
#include "app/running_model.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "base/path_words.h"
#include "base/printable.h"
#include "io/file.h"
#include "io/hub_cache.h"
#include "io/out_folder.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

void check(const ConvertJob& job) {
  if (job.out.extension() != ".gguf")
    throw usage_error("{}: expected a file that ends in .gguf", job.out.string());
  for (const fs::path& file : {job.out, job.modelfile}) {
    if (file.empty() || !fs::exists(fs::symlink_status(file))) continue;
    if (!job.force) throw usage_error("{}: exists already (--force replaces it)", file.string());
    if (!fs::is_regular_file(file)) throw usage_error("{}: is no file", file.string());
  }
  check_output(job.out);
  const fs::path first = job.part_bytes > 0 ? find_first_part(job.out) : fs::path();
  if (!first.empty() && !job.force)
    throw usage_error("{}: exists already (--force replaces it)", first.string());
  if (job.modelfile.empty()) return;
  if (job.part_bytes > 0)
    throw usage_error("{}: Ollama reads models of one file only", job.modelfile.string());
  check_output(job.modelfile);
  const std::string name = job.out.string();
  if (printable(name) != name)
    throw usage_error("{}: a Modelfile cannot name a file with such characters", name);
}

// Whether a user names a folder: what else is a recipe.
bool is_folder(const fs::path& model) { return fs::is_directory(model); }

// "owner/name" of a model in the hub's cache, "merged" of another folder or of a recipe.
std::string id_of(const fs::path& model) {
  const fs::path absolute = fs::absolute(model).lexically_normal();
  if (const std::string id = hub_id_of(absolute); !id.empty()) return id;
  const fs::path last = last_part(absolute.string());
  return printable((is_folder(model) ? last : last.stem()).string());
}

GgufMetadata general_of(const ConvertJob& job, const GgufMix& mix, const RecipeModel& model,
                        const GgufExport& e) {
  const bool has_card = !model.stage && has_model_file(model.folder, "README.md");
  const CardFields card = model.stage ? fields_of_recipe(*model.stage)
                          : has_card  ? fields_of_card(read_model_file(model.folder, "README.md"))
                                      : CardFields();
  GgufMetadata m = general_keys(id_of(job.model), card, e);
  m["general.file_type"] = mix.file_type;
  return m;
}

std::vector<GgufTensor> tensors_of(const GgufExport& e) {
  std::vector<GgufTensor> tensors;
  for (const ExportedTensor& t : e.tensors) tensors.push_back(t.tensor);
  for (const MadeTensor& t : e.made)
    tensors.push_back({t.name, GgufType::kF32, {static_cast<int64_t>(t.values.size())}});
  return tensors;
}

// The first part gets its name last: until then nothing opens the others.
void write_parts(std::vector<GgufPart>& parts, GgufTensorWriter& writer) {
  for (size_t i = parts.size(); i-- > 0;)
    write_file_durably(parts[i].file, [&](const File& file) { writer.write(parts[i], file); });
}

void write_modelfile(const ConvertJob& job) {
  if (job.modelfile.empty()) return;
  const fs::path folder = fs::absolute(job.modelfile).parent_path();
  const fs::path file = fs::absolute(job.out).lexically_relative(folder);
  write_file_durably(job.modelfile, "FROM ./" + file.string() + "\n");
}

}  // namespace

ConvertResult convert(const ConvertJob& job, const RunContext& context) {
  check(job);
  const GgufMix& mix = gguf_mix(job.type);
  RunResources run(context);
  const RecipeModel named = model_in(job.model, job.unknown_keys);
  const auto model = open_named(named, false, job.guidance, run.threads, run.progress, run.note);
  const InputModel& input = model->input;
  const TensorSource& source = *input.source;
  const ModelSpec& spec = model->transformer->spec();
  const std::string config_file = (input.folder / "config.json").string();
  GgufExport e = export_model(source, spec, *input.config, config_file);
  const GgufImportances importances = importances_of(job, mix, source, run);
  choose_types(mix, spec, !importances.by_tensor.empty(), e);
  e.metadata.merge(gguf_vocabulary(input.files(), *input.config,
                                   gguf_architecture(spec.model_type, config_file),
                                   {spec.vocab, job.pre}, e.notes));
  e.metadata.merge(general_of(job, mix, named, e));
  e.metadata.insert(importances.metadata.begin(), importances.metadata.end());
  tell_all(run.note, e.notes);
  const std::vector<GgufTensor> tensors = tensors_of(e);
  std::vector<GgufPart> parts = gguf_parts(job.out, e.metadata, tensors, job.part_bytes);
  ConvertResult result{job.out, std::string(mix.name), 0, tensors.size()};
  result.architecture = std::get<std::string>(e.metadata.at("general.architecture"));
  for (const GgufPart& part : parts) {
    result.bytes += part.layout.file_bytes;
    result.files.push_back(part.file);
  }
  const fs::path folder = fs::absolute(job.out).parent_path();
  check_disk_space(folder, job.out, result.bytes);
  GgufTensorWriter writer(source, e, importances, run);
  write_parts(parts, writer);
  write_modelfile(job);
  return result;
}

std::string json_text(const ConvertResult& r) {
  Json files = Json::array();
  for (const fs::path& file : r.files) files.push_back(file.string());
  return dump_json(Json{{"out", r.out.string()},
                        {"files", files},
                        {"bytes", r.bytes},
                        {"tensors", r.tensors},
                        {"architecture", r.architecture},
                        {"type", r.type}},
                   2);
}

}  // namespace lewis
