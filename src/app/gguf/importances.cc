#include "app/gguf/importances.h"

#include <algorithm>

#include "app/guidance.h"
#include "app/running_model.h"
#include "base/path_words.h"
#include "base/printable.h"
#include "plan/covered.h"

namespace lewis {
namespace {

std::string last_word(const std::string& path) { return printable(last_part(path)); }

// Adds a share of the mean squares of one model's inputs.
void add(const Statistics& statistics, const TensorSource& source, double share,
         GgufImportances& out) {
  for (const CoveredMatrix& m : covered_matrices(source, statistics)) {
    std::vector<float>& sums = out.by_tensor[m.tensor->name];
    if (m.first_row > 0) continue;  // another part of the same rows
    sums.resize(m.sums.size());
    for (size_t i = 0; i < sums.size(); ++i)
      sums[i] += static_cast<float>(share * m.sums[i] / m.divisor);
  }
}

std::string data_of(const Statistics& statistics) {
  const auto data = statistics.origin.find("data");
  return data == statistics.origin.end() ? "" : last_word(data->second);
}

}  // namespace

GgufImportances importances_of(const ConvertJob& job, const GgufMix& mix,
                               const TensorSource& source, RunResources& run) {
  GgufImportances out;
  const bool given = !job.imatrix.empty();
  const GgufType type = mix.type;
  if (gguf_type(type).block == 1 || type == GgufType::kQ8_0 || type == GgufType::kMXFP4) {
    if (given) {
      run.note(fmt::format("{}: not used: the blocks of {} follow from the largest number alone",
                           job.imatrix.string(), mix.name));
    }
    return out;
  }
  const RecipeModel model = model_in(job.model, job.unknown_keys);
  std::vector<Statistics> all;
  if (given) {
    all.push_back(read_any_statistics(job.imatrix, source));
  } else if (model.stage) {
    all = expert_statistics(*model.stage, job.guidance, run.threads, run.progress, run.note);
  }
  uint64_t sequences = 0;
  std::vector<std::string> names;
  for (const Statistics& s : all) {
    add(s, source, 1.0 / static_cast<double>(all.size()), out);
    sequences += s.sequences;
    names.push_back(data_of(s));
  }
  if (all.empty()) return out;
  if (given) out.metadata["quantize.imatrix.file"] = last_word(job.imatrix.string());
  out.metadata["quantize.imatrix.dataset"] = fmt::format("{}", fmt::join(names, ", "));
  out.metadata["quantize.imatrix.entries_count"] = static_cast<uint32_t>(out.by_tensor.size());
  out.metadata["quantize.imatrix.chunks_count"] = static_cast<uint32_t>(sequences);
  return out;
}

}  // namespace lewis
