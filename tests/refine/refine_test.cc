// Refined models against the normal equations that they must solve, with activations taken from
// whole forward passes of the experts and of the finished model.
#include "refine/refine.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>

#include "../merge/memory_source.h"
#include "base/error.h"
#include "golden_file.h"
#include "temp_dir.h"
#include "test_model.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The tensors of a folder in float32, with noise of `share` of each tensor's size.
MemorySource noisy(const fs::path& folder, float share, unsigned seed) {
  const Checkpoint checkpoint = Checkpoint::open(folder);
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  MemorySource source;
  for (const TensorInfo& t : checkpoint.tensors()) {
    std::vector<float> values = checkpoint.read_floats(t);
    double squares = 0;
    for (const float v : values) squares += static_cast<double>(v) * v;
    const auto size = static_cast<float>(std::sqrt(squares / static_cast<double>(values.size())));
    for (float& v : values) v += share * size * normal(random);
    source.add(t.name, DType::kF32, t.shape, values);
  }
  return source;
}

// A merge of two experts of one family, and its refinement.
struct Case {
  explicit Case(const fs::path& family, size_t thread_count = 2, float noise = 0.1f)
      : threads(thread_count),
        spec(read_model_spec(read_json(family / "config.json"), "config.json")),
        sources{noisy(family, noise, 1), noisy(family, noise, 2), noisy(family, noise, 3)},
        backend(make_cpu_backend(threads)) {
    for (const MemorySource& s : sources)
      models.push_back(std::make_unique<Transformer>(s, spec, *backend, threads));
    std::mt19937 random(5);
    const auto vocab = static_cast<int32_t>(std::min<int64_t>(spec.vocab, 1000));
    std::uniform_int_distribution<int32_t> id(0, vocab - 1);
    for (auto& text : texts) {
      for (const size_t length : {30u, 21u, 25u}) {
        TokenSequence s;
        for (size_t i = 0; i < length; ++i) s.ids.push_back(id(random));
        s.prompt_tokens = length / 3;
        text.push_back(std::move(s));
      }
    }
    options.settings.held_out = 0;
    options.scratch = dir.path / "scratch";
    options.plan = "plan";
  }

  std::map<std::string, std::vector<std::byte>> run() {
    const RefineModels all{*models[0], {models[1].get(), models[2].get()}};
    refined = open_refined(refine(all, texts, options, report = {}), "refined");
    std::map<std::string, std::vector<std::byte>> tensors;
    for (const TensorInfo& t : refined->tensors()) {
      tensors[t.name].resize(byte_size(t));
      refined->read(t, 0, tensors[t.name]);
    }
    return tensors;
  }

  // The refined model.
  MemorySource whole() const {
    MemorySource result;
    for (const TensorInfo& t : sources[0].tensors()) {
      const TensorSource& from = refined->find(t.name) ? *refined : sources[0];
      result.add(t.name, t.dtype, t.shape, from.read_floats(from.get(t.name)));
    }
    return result;
  }

  TempDir dir;
  Threads threads;
  ModelSpec spec;
  std::vector<MemorySource> sources;  // prior, experts
  std::unique_ptr<Backend> backend;
  std::vector<std::unique_ptr<Transformer>> models;
  std::vector<std::vector<TokenSequence>> texts{2};
  RefineOptions options;
  RefineReport report;
  std::shared_ptr<const TensorSource> refined;
};

fs::path family(const std::string& name) {
  return fs::path(LEWIS_TEST_DATA) / "golden/families" / name;
}

// What a model makes of a text: inputs of the linear layers by (layer, tap), and the last hidden
// states.
struct Activations {
  std::map<std::pair<int64_t, Tap>, std::vector<float>> inputs;
  std::vector<float> hidden;
};
Activations run_model(const Transformer& model, const std::vector<TokenSequence>& text) {
  std::vector<std::vector<int32_t>> ids;
  for (const TokenSequence& s : text) ids.push_back(s.ids);
  const TokenBatch batch = make_batch(ids);
  Activations a;
  a.hidden.resize(batch.ids.size() * static_cast<size_t>(model.spec().hidden));
  model.embed_once(batch.ids, a.hidden);
  for (int64_t layer = 0; layer < model.spec().layers; ++layer) {
    model.run_block(*model.load_block(layer), batch.sequences, a.hidden, [&](const Tapped& t) {
      a.inputs[{layer, t.tap}].assign(t.x.data, t.x.data + t.x.rows * t.x.columns);
    });
  }
  if (const auto head = model.untied_head()) {
    auto& x = a.inputs[{model.spec().layers, *tap_of(*head)}];
    x.resize(a.hidden.size());
    model.head_input(a.hidden, x.data());
  }
  return a;
}

std::vector<float> rows_of(const TensorSource& source, const LinearLayer& l) {
  const auto all = source.read_floats(source.get(l.tensor));
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(l.first_row * l.in);
  return {begin, begin + static_cast<std::ptrdiff_t>(l.out * l.in)};
}

std::vector<double> weights_of(const std::vector<TokenSequence>& text, double question) {
  std::vector<double> w;
  double sum = 0;
  for (const TokenSequence& s : text) {
    for (size_t t = 0; t < s.ids.size(); ++t) w.push_back(t < s.prompt_tokens ? question : 1);
  }
  for (const double v : w) sum += v;
  for (double& v : w) v /= sum;
  return w;
}

// max | sum_k X^m^T w (X^m W^T - X^t W_k^T) + rho (W - W_0)^T | / max | sum_k X^m^T w X^t W_k^T |,
// where X^t is what the target sees: the expert's inputs, or the merged model's.
double equations_error(const Case& c, const LinearLayer& l, const std::vector<Activations>& merged,
                       const std::vector<Activations>& expert, const MemorySource& whole) {
  const bool pp = c.options.settings.method == "regmean_pp";
  const auto w = rows_of(whole, l), w0 = rows_of(c.sources[0], l);
  const int64_t layer = tensor_layer(l.tensor).value_or(c.spec.layers);
  const auto in = static_cast<size_t>(l.in), out = static_cast<size_t>(l.out);
  std::vector<double> left(in * out), right(in * out);
  double trace = 0;
  for (size_t k = 0; k < 2; ++k) {
    const auto& x = merged[k].inputs.at({layer, *tap_of(l)});
    const auto& xe = pp ? x : expert[k].inputs.at({layer, *tap_of(l)});
    const auto wk = rows_of(c.sources[k + 1], l);
    const auto weights = weights_of(c.texts[k], c.options.settings.question_weight);
    for (size_t t = 0; t < weights.size(); ++t) {
      for (size_t j = 0; j < in; ++j)
        trace += weights[t] * static_cast<double>(x[t * in + j]) * x[t * in + j];
      for (size_t o = 0; o < out; ++o) {
        double y = 0, target = 0;
        for (size_t j = 0; j < in; ++j) {
          y += static_cast<double>(x[t * in + j]) * w[o * in + j];
          target += static_cast<double>(xe[t * in + j]) * wk[o * in + j];
        }
        for (size_t j = 0; j < in; ++j) {
          left[o * in + j] += weights[t] * (y - target) * x[t * in + j];
          right[o * in + j] += weights[t] * target * x[t * in + j];
        }
      }
    }
  }
  const double rho = c.options.settings.ridge * trace / static_cast<double>(in);
  double error = 0, size = 0;
  for (size_t i = 0; i < left.size(); ++i) {
    error = std::max(error, std::abs(left[i] + rho * (static_cast<double>(w[i]) - w0[i])));
    size = std::max(size, std::abs(right[i]));
  }
  return error / size;
}

class RefineFamilies : public testing::TestWithParam<fs::path> {};
INSTANTIATE_TEST_SUITE_P(All, RefineFamilies, testing::ValuesIn(golden_families()),
                         [](const auto& test) {
                           return test.param.parent_path().filename().string() + "_" +
                                  test.param.filename().string();
                         });

// Every linear layer of every block, fed with what the finished model gives it, is at the minimum.
TEST_P(RefineFamilies, SolvesTheNormalEquations) {
  for (const char* method : {"regression", "regmean_pp"}) {
    Case c(GetParam());
    if (c.spec.experts.count > 0) {
      try {
        c.run();
        FAIL() << "experts are routed";
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), ExitCode::kUsage);
        EXPECT_NE(std::string(e.what()).find("mixtures of experts"), std::string::npos) << e.what();
      }
      return;
    }
    c.options.settings.method = method;
    c.run();
    const MemorySource whole = c.whole();
    const Transformer finished(whole, c.spec, *c.backend, c.threads);
    std::vector<Activations> merged, expert;
    for (size_t k = 0; k < 2; ++k) {
      merged.push_back(run_model(finished, c.texts[k]));
      expert.push_back(run_model(*c.models[k + 1], c.texts[k]));
    }
    if (const auto head = finished.untied_head()) {
      EXPECT_LT(equations_error(c, *head, merged, expert, whole), 1e-5) << method << " head";
    }
    for (int64_t layer = 0; layer < c.spec.layers; ++layer) {
      for (const LinearLayer& l : linear_layers(finished.spec(), layer)) {
        EXPECT_LT(equations_error(c, l, merged, expert, whole), 1e-5) << method << " " << l.name;
      }
    }
  }
}

TEST_P(RefineFamilies, MuchRidgeGivesThePrior) {
  Case c(GetParam());
  if (c.spec.experts.count > 0) GTEST_SKIP();
  c.options.settings.ridge = 1e200;
  for (const auto& [name, bytes] : c.run()) {
    std::vector<std::byte> prior(bytes.size());
    c.sources[0].read(c.sources[0].get(name), 0, prior);
    EXPECT_EQ(bytes, prior) << name;
  }
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / size);
}

// One expert, and nothing that holds it back: on the text that was fitted to, the refined model is
// the expert. (Embeddings, norms and head stay the prior's, so those are the same here.)
TEST(Refine, OneExpertIsReproduced) {
  Case c(family("qwen2"), 2, 0);
  c.sources[1] = noisy(family("qwen2"), 0.1f, 2);
  for (const TensorInfo& t : c.sources[0].tensors()) {
    if (t.name.find("_proj") != std::string::npos) continue;
    const auto values = c.sources[0].read_floats(t);
    c.sources[1].remove(t.name);
    c.sources[1].add(t.name, t.dtype, t.shape, values);
  }
  c.models[1] = std::make_unique<Transformer>(c.sources[1], c.spec, *c.backend, c.threads);
  c.texts.resize(1);
  c.options.settings.ridge = 0;
  const RefineModels all{*c.models[0], {c.models[1].get()}};
  c.refined = open_refined(refine(all, c.texts, c.options, c.report), "refined");
  const MemorySource whole = c.whole();
  const Transformer finished(whole, c.spec, *c.backend, c.threads);
  const auto expert = run_model(*c.models[1], c.texts[0]).hidden;
  EXPECT_GT(relative_error(run_model(*c.models[0], c.texts[0]).hidden, expert), 0.05);
  EXPECT_LT(relative_error(run_model(finished, c.texts[0]).hidden, expert), 2e-4);
}

// RegMean's own formula: W^T = (sum_k G~_k)^-1 sum_k G~_k W_k^T satisfies sum_k G~_k (W - W_k)^T =
// 0.
TEST(Refine, RegMeanIsItsFormula) {
  Case c(family("llama"));
  c.options.settings.method = "regmean";
  c.options.settings.ridge = 0;
  c.run();
  const MemorySource whole = c.whole();
  std::vector<Activations> expert;
  for (size_t k = 0; k < 2; ++k) expert.push_back(run_model(*c.models[k + 1], c.texts[k]));
  for (const LinearLayer& l : linear_layers(c.spec, 1)) {
    const auto in = static_cast<size_t>(l.in), out = static_cast<size_t>(l.out);
    const auto w = rows_of(whole, l);
    std::vector<double> left(out * in), right(out * in);
    for (size_t k = 0; k < 2; ++k) {
      const auto& x = expert[k].inputs.at({1, *tap_of(l)});
      const auto wk = rows_of(c.sources[k + 1], l);
      const auto weights = weights_of(c.texts[k], c.options.settings.question_weight);
      std::vector<double> gram(in * in);
      for (size_t t = 0; t < weights.size(); ++t) {
        for (size_t i = 0; i < in; ++i) {
          for (size_t j = 0; j < in; ++j)
            gram[i * in + j] += (i == j ? 1 : 0.9) * weights[t] *
                                static_cast<double>(x[t * in + i]) * x[t * in + j];
        }
      }
      for (size_t o = 0; o < out; ++o) {
        for (size_t i = 0; i < in; ++i) {
          for (size_t j = 0; j < in; ++j) {
            left[o * in + i] +=
                gram[i * in + j] * (static_cast<double>(w[o * in + j]) - wk[o * in + j]);
            right[o * in + i] += gram[i * in + j] * wk[o * in + j];
          }
        }
      }
    }
    double error = 0, size = 0;
    for (size_t i = 0; i < left.size(); ++i) {
      error = std::max(error, std::abs(left[i]));
      size = std::max(size, std::abs(right[i]));
    }
    EXPECT_LT(error / size, 1e-5) << l.name;
  }
}

TEST(Refine, ThreadsAndSpillingDoNotChangeABit) {
  const auto result = [](size_t thread_count, uint64_t max_memory) {
    Case c(family("phi3"), thread_count);
    c.options.settings.held_out = 0.3;
    c.options.settings.ridge = 3;  // so that blocks are kept
    c.options.max_memory = max_memory;
    return c.run();
  };
  const auto one = result(1, 0);
  EXPECT_FALSE(one.empty());
  EXPECT_EQ(one, result(2, 0));
  EXPECT_EQ(one, result(7, 0));
  Case c(family("phi3"));
  const RefineModels all{*c.models[0], {c.models[1].get(), c.models[2].get()}};
  const uint64_t least = block_memory(all, lay_out_text(c.texts, 0.3, 0.1), c.options.settings);
  EXPECT_EQ(one, result(2, least)) << "hidden states in files";
  try {
    result(2, least - 1);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kResource);
    EXPECT_NE(std::string(e.what()).find(std::to_string(least)), std::string::npos) << e.what();
  }
}

// Interrupted at every step and resumed: the bytes of a run that was left in peace.
TEST(Refine, GoesOnAfterAnInterrupt) {
  Case peace(family("gemma2"));
  peace.options.settings.held_out = 0.3;
  peace.options.settings.ridge = 3;  // so that blocks are kept
  const auto expected = peace.run();
  EXPECT_FALSE(expected.empty());
  for (int stop = 1;; stop += 5) {
    Case c(family("gemma2"));
    c.options.settings = peace.options.settings;
    int calls = 0;
    c.options.progress = [&](const Progress&) {
      if (++calls == stop) throw Error(ExitCode::kInterrupted, "interrupted");
    };
    bool interrupted = false;
    try {
      c.run();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ExitCode::kInterrupted);
      interrupted = true;
    }
    if (!interrupted) break;
    c.options.progress = {};
    c.options.resume = true;
    c.options.plan = "another";
    EXPECT_THROW(c.run(), Error) << "another plan";
    c.options.plan = "plan";
    EXPECT_EQ(c.run(), expected);
    if (stop > 15) {
      EXPECT_GT(c.report.resumed, 0);
    }
    EXPECT_EQ(c.report.blocks.size(), static_cast<size_t>(c.spec.layers));
  }
}

// A block is refined only where that serves the held-out text; if not, all goes on as merged.
TEST(Refine, HeldOutTextDecides) {
  Case c(family("llama"));
  c.options.settings.ridge = 1e-9;  // fits noise
  c.options.settings.norms = false;
  c.options.settings.held_out = 0.6;
  for (auto& text : c.texts) text[0].ids.resize(4);
  const auto tensors = c.run();
  EXPECT_GT(c.report.held_out, 0u);
  size_t kept = 0;
  for (size_t b = 0; b < static_cast<size_t>(c.spec.layers); ++b) {
    const BlockResult& block = c.report.blocks[b];
    EXPECT_EQ(block.kept_prior, block.error_prior < block.error_solved);
    kept += block.kept_prior;
    const bool there = tensors.contains(fmt::format("model.layers.{}.mlp.up_proj.weight", b));
    EXPECT_EQ(there, !block.kept_prior);
  }
  EXPECT_GT(kept, 0u) << "four tokens say little";
}

TEST(RefineText, IsLaidOutByExperts) {
  std::vector<std::vector<TokenSequence>> texts(2);
  for (int i = 0; i < 4; ++i) texts[0].push_back({{1, 2, 3, 4}, 2});
  texts[1].push_back({{5, 6}, 2});  // nothing but a question
  const TextRows text = lay_out_text(texts, 0.25, 0.1);
  EXPECT_EQ(text.rows, 18);
  EXPECT_EQ(text.fit_rows, 14);
  ASSERT_EQ(text.segments.size(), 3u);
  EXPECT_EQ(text.segments[1].expert, 1u);
  EXPECT_TRUE(text.segments[2].held_out);
  EXPECT_EQ(text.segments[2].first_row, 14);
  EXPECT_FLOAT_EQ(text.weights[0], 0.1f / 6.6f);
  EXPECT_FLOAT_EQ(text.weights[2], 1 / 6.6f);
  EXPECT_FLOAT_EQ(text.weights[12], 0.5f);
}

}  // namespace
}  // namespace lewis
