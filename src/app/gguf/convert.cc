// The verb convert: a model, or what a recipe merges, as one GGUF file.
#include <lewis/gguf.h>

#include <algorithm>

#include "app/gguf/export.h"
#include "app/gguf/importances.h"
#include "app/gguf/mix.h"
#include "app/gguf/vocabulary.h"
#include "app/outputs.h"
#include "app/refinement.h"
#include "app/run.h"
#include "app/running_model.h"
#include "base/dtype.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/json.h"
#include "base/path_words.h"
#include "base/printable.h"
#include "io/file.h"
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
  if (job.modelfile.empty()) return;
  check_output(job.modelfile);
  const std::string name = job.out.string();
  if (printable(name) != name)
    throw usage_error("{}: a Modelfile cannot name a file with such characters", name);
}

// "merged" of a folder or recipe.
std::string name_of(const fs::path& model) {
  const fs::path last = last_part(fs::absolute(model).lexically_normal().string());
  return printable((fs::is_directory(model) ? last : last.stem()).string());
}

// Writes a model's tensors where a layout has them.
class TensorsToGguf {
 public:
  TensorsToGguf(const TensorSource& model, const GgufLayout& layout,
                const GgufImportances& importances, const File& file, RunResources& run)
      : model_(model), layout_(layout), importances_(importances), file_(file), run_(run) {}

  void write(const GgufExport& e) {
    file_.allocate(layout_.file_bytes);
    file_.write_at(0, std::as_bytes(std::span(layout_.header)));
    Progress progress{"writing", "tensors", 0, e.tensors.size()};
    for (size_t i = 0; i < e.tensors.size(); ++i) {
      uint64_t begin = layout_.begins[i];
      for (const std::string& source : e.tensors[i].sources)
        begin += write_tensor(e.tensors[i], source, begin);
      ++progress.done;
      if (run_.progress) run_.progress(progress);
    }
    if (!e.rope_factors.empty())
      file_.write_at(layout_.begins.back(), std::as_bytes(std::span(e.rope_factors)));
  }

 private:
  // Rows are encoded beside each other, a piece of the tensor at a time. Returns the bytes written.
  uint64_t write_tensor(const ExportedTensor& t, const std::string& source, uint64_t begin) {
    const TensorInfo& info = model_.get(source);
    std::vector<std::byte> stored(byte_size(info));
    model_.read(info, 0, stored);
    // A bias that goes through rope has a number per row of its matrix.
    const bool has_rows = info.shape.size() > 1 || t.rope_heads > 0;
    const int64_t rows = has_rows ? info.shape[0] : 1;
    const int64_t columns = element_count(info.shape) / std::max<int64_t>(1, rows);
    const uint64_t row_bytes = gguf_bytes(t.tensor.type, columns);
    const size_t stored_row = static_cast<size_t>(columns) * dtype_size(info.dtype);
    const int64_t together = std::clamp<int64_t>(
        (int64_t{16} << 20) / std::max<int64_t>(1, columns), 1, std::max<int64_t>(1, rows));
    std::vector<std::byte> out(static_cast<size_t>(together) * row_bytes);
    const auto found = importances_.by_tensor.find(source);
    const std::span<const float> importances =
        found == importances_.by_tensor.end() ? std::span<const float>() : found->second;
    for (int64_t first = 0; first < rows; first += together) {
      const int64_t count = std::min(together, rows - first);
      run_.threads.run(static_cast<size_t>(count), [&](size_t r) {
        const int64_t row = first + static_cast<int64_t>(r);
        const int64_t from = t.rope_heads > 0 ? row_of_rope(row, rows, t.rope_heads) : row;
        std::vector<float> values(static_cast<size_t>(columns));
        widen(info.dtype, stored.data() + static_cast<size_t>(from) * stored_row, values);
        if (!all_finite(values))
          throw input_error("{}: tensor {} has values that are not finite", model_.label(),
                            info.name);
        encode_gguf(t.tensor.type, values, importances, out.data() + r * row_bytes);
      });
      file_.write_at(begin + static_cast<uint64_t>(first) * row_bytes,
                     std::span(out).first(static_cast<size_t>(count) * row_bytes));
    }
    return static_cast<uint64_t>(rows) * row_bytes;
  }

  const TensorSource& model_;
  const GgufLayout& layout_;
  const GgufImportances& importances_;
  const File& file_;
  RunResources& run_;
};

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
  const auto model = open_named(model_in(job.model, job.unknown_keys), true, job.guidance,
                                run.threads, run.progress, run.note);
  tell_all(run.note, model->input.notes);
  const InputModel& input = model->input;
  const TensorSource& source = *input.source;
  GgufExport e = export_model(source, model->transformer->spec(), *input.config,
                              (input.folder / "config.json").string());
  const GgufImportances importances = importances_of(job, mix, source, run);
  choose_types(mix, model->transformer->spec(), !importances.by_tensor.empty(), e);
  tell_all(run.note, e.notes);
  e.metadata.insert(importances.metadata.begin(), importances.metadata.end());
  e.metadata.merge(gguf_vocabulary(input.files(), model->transformer->spec().vocab, job.pre));
  e.metadata["general.type"] = std::string("model");
  e.metadata["general.name"] = name_of(job.model);
  e.metadata["general.file_type"] = mix.file_type;
  e.metadata["general.quantization_version"] = uint32_t{2};
  std::vector<GgufTensor> tensors;
  for (const ExportedTensor& t : e.tensors) tensors.push_back(t.tensor);
  if (!e.rope_factors.empty())
    tensors.push_back(
        {"rope_freqs.weight", GgufType::kF32, {static_cast<int64_t>(e.rope_factors.size())}});
  const GgufLayout layout = lay_out_gguf(e.metadata, tensors);
  const fs::path folder = fs::absolute(job.out).parent_path();
  check_disk_space(folder, job.out, layout.file_bytes);
  write_file_durably(job.out, [&](const File& file) {
    TensorsToGguf(source, layout, importances, file, run).write(e);
  });
  write_modelfile(job);
  return {job.out, std::string(mix.name), layout.file_bytes, tensors.size(),
          std::get<std::string>(e.metadata.at("general.architecture"))};
}

std::string json_text(const ConvertResult& r) {
  return dump_json(Json{{"out", r.out.string()},
                        {"bytes", r.bytes},
                        {"tensors", r.tensors},
                        {"architecture", r.architecture},
                        {"type", r.type}},
                   2);
}

}  // namespace lewis
