// The types of a GGUF file's tensors against llama-quantize, and what importances do to rounding.
#include <gtest/gtest.h>

#include <lewis/gguf.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "app/gguf/export.h"
#include "app/gguf/mix.h"
#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "calibrate/statistics.h"
#include "io/checkpoint.h"
#include "model/transformer.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

const GgufMix& mix_of(std::string_view name) {
  return *std::ranges::find(gguf_mixes(), name, &GgufMix::name);
}

// An export of tensors with these names and shapes.
GgufExport export_of(const Json& model, const ModelSpec& spec) {
  GgufExport e;
  e.metadata["general.architecture"] =
      std::string(spec.model_type == "qwen3_moe" ? "qwen3moe" : "llama");
  for (const auto& [name, shape] : model["tensors"].items()) {
    ExportedTensor t{{name, GgufType::kF32, shape.get<Shape>()}};
    t.stays_f32 = t.tensor.shape.size() < 2 || name.ends_with(".ffn_gate_inp.weight");
    e.tensors.push_back(t);
  }
  return e;
}

// tests/data/golden/gguf/make_types.py: five models, twelve mixes, with and without importances.
TEST(GgufMixes, TypesAreThoseOfLlamaQuantize) {
  const fs::path file = fs::path(LEWIS_TEST_DATA) / "golden/gguf/types.json";
  size_t compared = 0;
  for (const Json& model : parse_json(read_text_file(file), file.string())) {
    const ModelSpec spec = read_model_spec(model["config"], "config.json");
    for (const auto& [kind, types] : model["types"].items()) {
      const size_t space = kind.find(' ');
      const GgufMix& mix = mix_of(std::string_view(kind).substr(0, space));
      GgufExport e = export_of(model, spec);
      choose_types(mix, spec, kind.substr(space + 1) == "weighted", e);
      for (const ExportedTensor& t : e.tensors) {
        const std::string wanted = t.stays_f32 ? "F32"
                                   : types.contains(t.tensor.name)
                                       ? types[t.tensor.name].get<std::string>()
                                       : std::string(gguf_type(mix.type).name);
        EXPECT_EQ(gguf_type(t.tensor.type).name, wanted)
            << kind << " of " << spec.model_type << ": " << t.tensor.name;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 10000u);
}

// Sums over a file's matrices of importance * (number - rounded number)^2, relative to the
// numbers'.
double weighted_error(const fs::path& folder, const fs::path& gguf, const Statistics& statistics) {
  const Checkpoint model = Checkpoint::open(folder);
  const ModelSpec spec = locate_tensors(read_model_spec(model.config(), "config.json"), model);
  GgufExport e = export_model(model, spec, model.config(), "config.json");
  choose_types(mix_of("q4_0"), spec, false, e);
  const GgufLayout layout = [&] {
    std::vector<GgufTensor> tensors;
    for (const ExportedTensor& t : e.tensors) tensors.push_back(t.tensor);
    return lay_out_gguf({}, tensors);
  }();
  const File file = File::open_read(gguf);
  const uint64_t shift = file.size() - layout.file_bytes;  // of the metadata, which are not here
  double error = 0, all = 0;
  for (size_t i = 0; i < e.tensors.size(); ++i) {
    const ExportedTensor& t = e.tensors[i];
    const std::string& source = t.sources[0];
    if (t.tensor.type != GgufType::kQ4_0 || !source.ends_with("up_proj.weight")) continue;
    const int64_t count = element_count(t.tensor.shape);
    std::vector<std::byte> bytes(gguf_bytes(t.tensor.type, count));
    file.read_at(layout.begins[i] + shift, bytes);
    std::vector<float> rounded(static_cast<size_t>(count));
    decode_gguf(t.tensor.type, bytes.data(), rounded);
    const std::vector<float> x = model.read_floats(model.get(source));
    const std::vector<double>& sums =
        statistics.sum_squares.at(source.substr(0, source.rfind('.')));
    for (size_t j = 0; j < x.size(); ++j) {
      const double miss = static_cast<double>(x[j]) - rounded[j];
      error += sums[j % sums.size()] * miss * miss;
      all += sums[j % sums.size()] * static_cast<double>(x[j]) * x[j];
    }
  }
  return error / all;
}

TEST(GgufMixes, ImportancesMakeTheErrorOfOutputsSmaller) {
  const TempDir dir;
  const fs::path model = fs::path(LEWIS_DEMO) / "models/math";
  const fs::path plain = dir.path / "plain.gguf", weighted = dir.path / "weighted.gguf";
  CalibrateJob text{.model = model};
  text.data = fs::path(LEWIS_DEMO) / "data/math_train.jsonl";
  text.format = "gsm8k";
  text.samples = 10;
  text.guidance.cache.clear();
  text.out = dir.path / "statistics.safetensors";
  calibrate(text);
  const Statistics statistics = read_statistics(text.out);
  convert({.model = model, .out = plain, .type = "q4_0"});
  convert({.model = model, .out = weighted, .type = "q4_0", .imatrix = text.out});
  const double without = weighted_error(model, plain, statistics);
  const double with = weighted_error(model, weighted, statistics);
  EXPECT_GT(without, 1e-4);
  EXPECT_LT(with, 0.9 * without);
  std::ifstream in(weighted, std::ios::binary);
  std::string head(4096, '\0');
  in.read(head.data(), static_cast<std::streamsize>(head.size()));
  EXPECT_NE(head.find("math_train.jsonl"), head.npos) << "quantize.imatrix.dataset";
}

TEST(GgufMixes, StatisticsOfAnotherModelAreRefused) {
  const TempDir dir;
  const fs::path statistics = dir.path / "statistics.safetensors";
  Statistics s;
  s.sum_squares["model.layers.0.self_attn.q_proj"] = std::vector<double>(7, 1.0);
  s.tokens = s.sequences = 1;
  write_statistics(statistics, s);
  EXPECT_THROW(convert({.model = fs::path(LEWIS_DEMO) / "models/math",
                        .out = dir.path / "out.gguf",
                        .type = "q4_0",
                        .imatrix = statistics}),
               Error);
  EXPECT_FALSE(fs::exists(dir.path / "out.gguf"));
}

}  // namespace
}  // namespace lewis
