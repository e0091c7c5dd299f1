// Adapters out of models: against plain singular values, and against the model that they came from.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <random>

#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "memory_source.h"
#include "merge/extraction/extract.h"
#include "merge/extraction/low_rank_fit.h"
#include "merge/extraction/rank_choice.h"
#include "merge/input_model.h"
#include "merge/sources/adapter_source.h"
#include "plain_methods.h"
#include "snapshot.h"
#include "temp_dir.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

std::vector<float> random_values(size_t n, float scale, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

// A matrix whose singular values fall as 1 / k^power: the sum of products of random vectors.
std::vector<float> falling_matrix(int64_t rows, int64_t columns, double power, unsigned seed) {
  std::vector<float> m(static_cast<size_t>(rows * columns));
  for (int64_t k = 0; k < std::min(rows, columns); ++k) {
    const auto u = random_values(static_cast<size_t>(rows), 1, seed + static_cast<unsigned>(2 * k));
    const auto v =
        random_values(static_cast<size_t>(columns), 1, seed + static_cast<unsigned>(2 * k + 1));
    const auto factor = static_cast<float>(std::pow(static_cast<double>(k) + 1, -power));
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c)
        m[static_cast<size_t>(r * columns + c)] +=
            factor * u[static_cast<size_t>(r)] * v[static_cast<size_t>(c)];
    }
  }
  return m;
}

double square(double x) { return x * x; }

// || (d - b a) diag(w) ||^2, entry by entry in double.
double plain_residual(const std::vector<float>& d, const LowRankFit& fit,
                      const std::vector<float>& w, int64_t rows, int64_t columns) {
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      double product = 0;
      for (int64_t k = 0; k < fit.rank; ++k)
        product += static_cast<double>(fit.b[static_cast<size_t>(r * fit.rank + k)]) *
                   fit.a[static_cast<size_t>(k * columns + c)];
      const double weight = w.empty() ? 1 : w[static_cast<size_t>(c)];
      sum += square(weight * (d[static_cast<size_t>(r * columns + c)] - product));
    }
  }
  return sum;
}

// The singular values of d diag(w), by one-sided Jacobi rotations.
std::vector<double> plain_values(const std::vector<float>& d, const std::vector<float>& w,
                                 int64_t rows, int64_t columns) {
  PlainMatrix m(static_cast<size_t>(rows), static_cast<size_t>(columns));
  for (size_t i = 0; i < d.size(); ++i) {
    const size_t c = i % static_cast<size_t>(columns);
    m.at(i / static_cast<size_t>(columns), c) = d[i] * (w.empty() ? 1.0 : w[c]);
  }
  return plain_svd(m).s;
}

struct Shape2 {
  int64_t rows, columns;
};

// Nearly as near as the singular values allow, with and without weights; exact with full rank.
TEST(LowRankFit, IsNearlyTheNearest) {
  Threads threads(2);
  for (const auto& [rows, columns] :
       {Shape2{40, 25}, Shape2{24, 61}, Shape2{1, 9}, Shape2{30, 30}}) {
    for (const double power : {0.2, 1.0, 3.0}) {
      for (const bool weighted : {false, true}) {
        const auto d = falling_matrix(rows, columns, power, 3);
        std::vector<float> w;
        for (int64_t c = 0; weighted && c < columns; ++c)
          w.push_back(0.1f + static_cast<float>(c % 7));
        const auto values = plain_values(d, w, rows, columns);
        for (const int64_t rank : {1, 4, 12, 100}) {
          const FloatMatrix matrix{d.data(), rows, columns, columns};
          const LowRankFit fit = fit_low_rank(matrix, w, rank, {1, 0, "x"}, threads);
          EXPECT_LE(fit.rank, std::min({rank, rows, columns}));
          double least = 0, all = 0;
          for (size_t k = 0; k < values.size(); ++k) {
            all += square(values[k]);
            if (static_cast<int64_t>(k) >= rank) least += square(values[k]);
          }
          const double residual = plain_residual(d, fit, w, rows, columns);
          EXPECT_LE(std::sqrt(residual), 1.002 * std::sqrt(least) + 1e-5 * std::sqrt(all))
              << rows << " x " << columns << ", rank " << rank << ", power " << power;
          EXPECT_GE(std::sqrt(residual), (1 - 1e-6) * std::sqrt(least) - 1e-5 * std::sqrt(all));
          EXPECT_NEAR(squared_residual(matrix, w, fit.b, fit.a, fit.rank, threads) / all,
                      residual / all, 1e-7);
        }
      }
    }
  }
}

TEST(LowRankFit, FindsARankThatIsLess) {
  Threads threads(2);
  std::vector<float> d(20 * 30);
  const auto u = random_values(20, 1, 1), v = random_values(30, 1, 2);
  for (size_t i = 0; i < d.size(); ++i) d[i] = u[i / 30] * v[i % 30];
  const LowRankFit fit = fit_low_rank({d.data(), 20, 30, 30}, {}, 5, {1, 0, "x"}, threads);
  EXPECT_EQ(fit.rank, 1);
  const std::vector<float> zeros(d.size());
  EXPECT_EQ(fit_low_rank({zeros.data(), 20, 30, 30}, {}, 5, {1, 0, "x"}, threads).rank, 0);
}

// All choices of ranks of three small matrices are tried.
TEST(RankChoice, IsTheBestOfItsSize) {
  const std::vector<MatrixSpectrum> matrices = {{4, 4, {5, 3, 1, 0.5}, 35.25},
                                                {4, 4, {4, 3.5, 2, 1}, 33.25},
                                                {4, 4, {1, 0.9, 0.8, 0.1}, 2.46}};
  const auto left = [&](const std::vector<int64_t>& ranks) {
    double sum = 0;
    for (size_t m = 0; m < ranks.size(); ++m) {
      for (size_t k = static_cast<size_t>(ranks[m]); k < 4; ++k)
        sum += square(matrices[m].values[k]);
    }
    return sum;
  };
  for (int64_t uniform = 1; uniform <= 4; ++uniform) {
    double best = 1e9;
    for (int64_t a = 0; a <= 4; ++a) {
      for (int64_t b = 0; b <= 4; ++b) {
        const int64_t c = std::min<int64_t>(4, 3 * uniform - a - b);
        if (c >= 0) best = std::min(best, left({a, b, c}));
      }
    }
    EXPECT_NEAR(left(ranks_for_size(matrices, uniform)), best, 1e-12) << uniform;
  }
  for (const double error : {0.9, 0.5, 0.2, 0.05}) {
    const auto ranks = ranks_for_error(matrices, error);
    ASSERT_TRUE(ranks);
    EXPECT_LE(left(*ranks), square(error) * (35.25 + 33.25 + 2.46));
    const auto uniform = rank_for_error(matrices, error);
    ASSERT_TRUE(uniform);
    EXPECT_LE(left({*uniform, *uniform, *uniform}), square(error) * (35.25 + 33.25 + 2.46));
    EXPECT_GT(left({*uniform - 1, *uniform - 1, *uniform - 1}),
              square(error) * (35.25 + 33.25 + 2.46));
  }
  const std::vector<MatrixSpectrum> short_ones = {{4, 4, {5, 3}, 35.25}};
  EXPECT_FALSE(ranks_for_error(short_ones, 0.1));
  EXPECT_FALSE(rank_for_error(short_ones, 0.1));
}

// A model with all that an adapter can hold, and a fine-tuned one.
struct Pair {
  Pair() {
    for (const auto& [name, shape] : shapes) {
      const auto n = static_cast<size_t>(element_count(shape));
      auto values = random_values(n, 0.5f, static_cast<unsigned>(name.size()));
      base->add(name, DType::kF32, shape, values);
      const auto change = random_values(n, 0.05f, static_cast<unsigned>(2 * name.size() + 1));
      for (size_t i = 0; i < n && name.find("layers.1.self_attn.q") == std::string::npos; ++i)
        values[i] += change[i];
      model->add(name, DType::kF32, shape, values);
    }
  }
  std::vector<std::pair<std::string, Shape>> shapes = {
      {"model.embed_tokens.weight", {20, 12}},
      {"model.layers.0.self_attn.q_proj.weight", {12, 12}},
      {"model.layers.0.self_attn.q_proj.bias", {12}},
      {"model.layers.0.mlp.down_proj.weight", {12, 30}},
      {"model.layers.0.mlp.gate.weight", {4, 12}},
      {"model.layers.0.input_layernorm.weight", {12}},
      {"model.layers.1.self_attn.q_proj.weight", {12, 12}},
      {"model.layers.1.mlp.down_proj.weight", {12, 30}},
      {"model.norm.weight", {12}},
      {"lm_head.weight", {20, 12}}};
  std::shared_ptr<MemorySource> base = std::make_shared<MemorySource>();
  std::shared_ptr<MemorySource> model = std::make_shared<MemorySource>();
};

double worst_difference(const TensorSource& a, const TensorSource& b) {
  double worst = 0;
  for (const TensorInfo& t : a.tensors()) {
    const auto x = a.read_floats(t), y = b.read_floats(b.get(t.name));
    for (size_t i = 0; i < x.size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(x[i]) - y[i]));
  }
  return worst;
}

// With full rank, base and adapter are the model; with less, as near as the adapter says.
TEST(Extraction, TheAdapterMakesTheModelOfTheBase) {
  Threads threads(2);
  for (const int64_t rank : {3, 12}) {
    const Pair pair;
    const TempDir dir;
    ExtractOptions options{.rank = rank, .base_name = "the/base"};
    const ExtractedAdapter adapter = extract_adapter(*pair.base, *pair.model, options, threads);
    EXPECT_EQ(adapter.layers.size(), 3u) << "not the router, not what is equal";
    EXPECT_EQ(adapter.unchanged.size(), 1u);
    write_adapter(adapter, options, dir.path / "adapter", false);
    const auto adapted = adapt(pair.base, dir.path / "adapter").source;
    double squares = 0, residual = 0;
    for (const ExtractedLayer& layer : adapter.layers) {
      const std::string name = layer.module + ".weight";
      const auto b = pair.base->read_floats(pair.base->get(name));
      const auto m = pair.model->read_floats(pair.model->get(name));
      const auto a = adapted->read_floats(adapted->get(name));
      for (size_t i = 0; i < b.size(); ++i) {
        squares += square(m[i] - b[i]);
        residual += square(m[i] - a[i]);
      }
    }
    EXPECT_NEAR(adapter.error(), std::sqrt(residual / squares), 1e-5);
    if (rank == 12) {
      EXPECT_LT(worst_difference(*pair.model, *adapted), 1e-6);
    }
    for (const auto& [name, shape] : pair.shapes) {
      const bool whole =
          shape.size() == 1 || name.find("embed") != name.npos || name.find("gate") != name.npos;
      if (!whole) continue;
      EXPECT_EQ(adapted->read_floats(adapted->get(name)),
                pair.model->read_floats(pair.model->get(name)))
          << name;
    }
    const Json config =
        parse_json(read_text_file(dir.path / "adapter/adapter_config.json"), "config");
    EXPECT_EQ(config["base_model_name_or_path"], "the/base");
    EXPECT_FALSE(config.contains("ensure_weight_tying"));
    EXPECT_EQ(config["bias"], "all");
  }
}

// The demo's models tie head and embeddings, and the adapter keeps them one.
TEST(Extraction, TiedEmbeddingsStayTied) {
  Threads threads(2);
  const TempDir dir;
  const fs::path models = fs::path(LEWIS_DEMO) / "models";
  const Checkpoint base = Checkpoint::open(models / "base");
  const Checkpoint math = Checkpoint::open(models / "math");
  const ExtractOptions options{.rank = 1000};
  const ExtractedAdapter adapter = extract_adapter(base, math, options, threads);
  EXPECT_TRUE(adapter.keeps_ties);
  write_adapter(adapter, options, dir.path / "adapter", false);
  const Recipe recipe =
      parse_recipe("merge_method: passthrough\nmodels:\n- model: " + (models / "base").string() +
                       "+" + (dir.path / "adapter").string() + "\n",
                   dir.path / "recipe.yml");
  const InputModel model = open_input(recipe.models.at(0), {});
  EXPECT_EQ(model.source->tensors().size(), math.tensors().size());
  EXPECT_LT(worst_difference(math, *model.source), 1e-2) << "of bfloat16";
}

TEST(Extraction, NeitherThreadsNorRepetitionChangeABit) {
  const Pair pair;
  std::vector<std::vector<std::byte>> first;
  for (const size_t count : {1u, 2u, 7u}) {
    Threads threads(count);
    const ExtractedAdapter adapter = extract_adapter(*pair.base, *pair.model, {.rank = 2}, threads);
    if (first.empty()) first = adapter.data;
    EXPECT_EQ(adapter.data, first) << count;
  }
}

TEST(Extraction, AnErrorIsKept) {
  Threads threads(2);
  const Pair pair;
  uint64_t last = 0;
  for (const double error : {0.8, 0.4, 0.1, 0.001}) {
    for (const RankChoice ranks : {RankChoice::kAuto, RankChoice::kUniform}) {
      const ExtractedAdapter adapter =
          extract_adapter(*pair.base, *pair.model, {.error = error, .ranks = ranks}, threads);
      EXPECT_LE(adapter.error(), 1.001 * error);
      if (ranks == RankChoice::kAuto) {
        EXPECT_GT(adapter.numbers, last);
        last = adapter.numbers;
      } else {
        EXPECT_GE(adapter.numbers, last);
      }
    }
  }
}

// Weights of inputs move the error to where it does not matter.
TEST(Extraction, WeightsLessenTheErrorOfOutputs) {
  Threads threads(2);
  const Pair pair;
  const auto weights = [](const TensorInfo& t) {
    std::vector<float> w(static_cast<size_t>(t.shape[1]), 0.05f);
    for (size_t i = 0; i < w.size(); i += 3) w[i] = 2;
    return w;
  };
  const ExtractedAdapter plain = extract_adapter(*pair.base, *pair.model, {.rank = 3}, threads);
  const ExtractedAdapter weighted =
      extract_adapter(*pair.base, *pair.model, {.rank = 3, .weights = weights}, threads);
  EXPECT_LT(weighted.error(), 0.8 * plain.error());
  EXPECT_TRUE(weighted.layers[0].weighted);
}

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_TRUE(e.code() == ExitCode::kInput || e.code() == ExitCode::kUsage) << e.what();
    return e.what();
  }
  return "";
}

TEST(Extraction, WhatAnAdapterCannotHoldIsNamed) {
  Threads threads(2);
  const Pair pair;
  const auto extract = [&](bool partial = false) {
    return extract_adapter(*pair.base, *pair.model, {.rank = 2, .partial = partial}, threads);
  };
  const auto refused = [&](std::string_view words) {
    EXPECT_NE(refusal([&] { (void)extract(); }).find(words), std::string::npos) << words;
  };
  const std::string experts = "model.layers.0.mlp.experts.0.up_proj.bias.weight";
  pair.base->add(experts, DType::kF32, {4, 12}, std::vector<float>(48, 1));
  refused("tensor " + experts + " is in");
  pair.model->add(experts, DType::kF32, {4, 12}, std::vector<float>(48, 1));
  EXPECT_TRUE(extract().left_out.empty()) << "it did not change";
  pair.model->remove(experts);
  pair.model->add(experts, DType::kF32, {4, 12}, std::vector<float>(48, 2));
  refused(experts + " changed, and a LoRA adapter cannot hold it");
  EXPECT_EQ(extract(true).left_out, std::vector<std::string>{experts});
  pair.model->remove(experts);
  pair.model->add(experts, DType::kF32, {4, 13}, std::vector<float>(52, 2));
  refused("[4, 12]");
  EXPECT_NE(refusal([&] {
              (void)extract_adapter(*pair.base, *pair.base, {.rank = 2}, threads);
            }).find("the same weights"),
            std::string::npos);
}

// Routed experts of two layers as a base stores them, and a fine-tuned model of the same layout.
struct Mixture {
  static constexpr int64_t kExperts = 3, kHidden = 6, kInner = 4;
  explicit Mixture(const std::string& layout_) : layout(layout_) {
    for (const int layer : {0, 1}) {
      const std::string place = fmt::format("model.layers.{}.mlp.", layer);
      add(place + "gate.weight", {kExperts, kHidden}, 0);
      add(fmt::format("model.layers.{}.self_attn.q_proj.weight", layer), {kHidden, kHidden}, 0.1f);
      if (layout != "split") {
        Shape gate_up{kExperts, 2 * kInner, kHidden}, down{kExperts, kHidden, kInner};
        if (layout != "fused") std::swap(gate_up[1], gate_up[2]), std::swap(down[1], down[2]);
        add(place + "experts.gate_up_proj", gate_up, 0.1f);
        add(place + "experts.down_proj", down, layer == 0 ? 0.1f : 0);
        continue;
      }
      for (int64_t e = 0; e < kExperts; ++e) {
        // One expert stays as it is.
        const float change = layer == 1 && e == 1 ? 0 : 0.1f;
        const std::string expert = fmt::format("{}experts.{}.", place, e);
        add(expert + "gate_proj.weight", {kInner, kHidden}, change);
        add(expert + "up_proj.weight", {kInner, kHidden}, change);
        add(expert + "down_proj.weight", {kHidden, kInner}, change);
      }
    }
  }
  void add(const std::string& name, const Shape& shape, float change) {
    const auto n = static_cast<size_t>(element_count(shape));
    auto values = random_values(n, 0.5f, seed++);
    base->add(name, DType::kF32, shape, values);
    const auto more = random_values(n, change, seed++);
    for (size_t i = 0; i < n; ++i) values[i] += more[i];
    model->add(name, DType::kF32, shape, values);
  }
  // As the verb sees both: experts one by one.
  ExtractedAdapter extract(ExtractOptions& options, Threads& threads) const {
    const Json config = {{"model_type", layout == "gpt_oss" ? "gpt_oss" : "llama4_text"},
                         {"hidden_size", kHidden}};
    const SplitExperts before = split_experts(base, config), after = split_experts(model, config);
    EXPECT_EQ(before.fused.empty(), layout == "split");
    options.fused_experts = before.fused;
    return extract_adapter(*before.source, *after.source, options, threads);
  }

  std::string layout;
  unsigned seed = 1;
  std::shared_ptr<MemorySource> base = std::make_shared<MemorySource>();
  std::shared_ptr<MemorySource> model = std::make_shared<MemorySource>();
};

// In every layout, base and adapter of full rank are the model; with less rank the error is that
// which the adapter says.
TEST(Extraction, RoutedExpertsAreInTheAdapter) {
  Threads threads(2);
  for (const char* layout : {"split", "fused", "llama4", "gpt_oss"}) {
    for (const int64_t rank : {2, 8}) {
      const Mixture m(layout);
      const TempDir dir;
      ExtractOptions options{.rank = rank, .ranks = RankChoice::kUniform};
      const ExtractedAdapter adapter = m.extract(options, threads);
      EXPECT_EQ(adapter.left_out, std::vector<std::string>{}) << layout;
      write_adapter(adapter, options, dir.path / "adapter", false);
      const auto adapted = adapt(m.base, dir.path / "adapter").source;
      double squares = 0, residual = 0;
      for (const TensorInfo& t : m.base->tensors()) {
        const auto b = m.base->read_floats(t), w = m.model->read_floats(m.model->get(t.name));
        const auto a = adapted->read_floats(adapted->get(t.name));
        for (size_t i = 0; i < b.size(); ++i) {
          squares += square(w[i] - b[i]);
          residual += square(w[i] - a[i]);
        }
      }
      EXPECT_NEAR(adapter.error(), std::sqrt(residual / squares), 1e-5) << layout << " " << rank;
      EXPECT_EQ(adapter.error() < 1e-5, rank == 8) << layout;
      const Json config =
          parse_json(read_text_file(dir.path / "adapter/adapter_config.json"), "config");
      if (m.layout == "split") {
        EXPECT_EQ(config["target_modules"].size(), 4u) << "ends of names, with those of experts";
        EXPECT_EQ(config["r"], std::min<int64_t>(rank, 4)) << "PEFT stacks experts of rank r";
        EXPECT_FALSE(config.contains("target_parameters"));
      } else {
        EXPECT_EQ(config["target_modules"].size(), 1u);
        EXPECT_EQ(config["target_parameters"].size(), 3u) << "one did not change";
      }
    }
  }
}

// Experts take part in the choice of ranks, and an error is kept over all matrices.
TEST(Extraction, RanksOfExpertsAreChosen) {
  Threads threads(2);
  for (const char* layout : {"split", "fused"}) {
    const Mixture m(layout);
    for (const RankChoice ranks : {RankChoice::kAuto, RankChoice::kUniform}) {
      ExtractOptions options{.error = 0.3, .ranks = ranks};
      EXPECT_LE(m.extract(options, threads).error(), 0.3003) << layout;
    }
    ExtractOptions dora{.rank = 2, .dora = true};
    EXPECT_NE(refusal([&] { (void)m.extract(dora, threads); }).find("a DoRA adapter cannot hold"),
              std::string::npos);
  }
}

// DoRA's formula row by row in double: the norms are the model's, and the error is what is printed.
TEST(Extraction, MagnitudesAreTheNormsOfTheModel) {
  Threads threads(2);
  const Pair pair;
  for (const int64_t rank : {2, 12}) {
    const TempDir dir;
    const ExtractOptions options{.rank = rank, .ranks = RankChoice::kUniform, .dora = true};
    const ExtractedAdapter adapter = extract_adapter(*pair.base, *pair.model, options, threads);
    write_adapter(adapter, options, dir.path / "adapter", false);
    const auto adapted = adapt(pair.base, dir.path / "adapter").source;
    double squares = 0, residual = 0;
    for (const ExtractedLayer& layer : adapter.layers) {
      const TensorInfo& t = pair.base->get(layer.module + ".weight");
      const auto b = pair.base->read_floats(t), w = pair.model->read_floats(t),
                 a = adapted->read_floats(t);
      const auto columns = static_cast<size_t>(t.shape[1]);
      for (size_t row = 0; row * columns < b.size(); ++row) {
        double of_model = 0, of_adapted = 0;
        for (size_t i = row * columns; i < (row + 1) * columns; ++i) {
          of_model += square(w[i]), of_adapted += square(a[i]);
          squares += square(w[i] - b[i]), residual += square(w[i] - a[i]);
        }
        EXPECT_NEAR(of_adapted / of_model, 1, 1e-5) << t.name;
      }
    }
    EXPECT_NEAR(adapter.error(), std::sqrt(residual / squares), 1e-4) << rank;
    EXPECT_EQ(adapter.error() < 1e-4, rank == 12);
  }
}

TEST(Extraction, AFolderThatIsNoAdapterIsKept) {
  Threads threads(2);
  const Pair pair;
  const TempDir dir;
  const ExtractOptions options{.rank = 2};
  const ExtractedAdapter adapter = extract_adapter(*pair.base, *pair.model, options, threads);
  const fs::path out = dir.path / "out";
  fs::create_directories(out);
  std::ofstream(out / "thesis.txt") << "years";
  const auto before = snapshot(dir.path);
  for (const bool force : {false, true})
    EXPECT_FALSE(refusal([&] { write_adapter(adapter, options, out, force); }).empty());
  EXPECT_EQ(snapshot(dir.path), before);
  fs::remove(out / "thesis.txt");
  write_adapter(adapter, options, out, true);
  const auto written = snapshot(dir.path);
  EXPECT_FALSE(refusal([&] { write_adapter(adapter, options, out, false); }).empty());
  write_adapter(adapter, options, out, true);
  EXPECT_EQ(snapshot(dir.path), written);
  EXPECT_EQ(std::distance(fs::directory_iterator(out), {}), 3) << "weights, config, card";
}

}  // namespace
}  // namespace lewis
