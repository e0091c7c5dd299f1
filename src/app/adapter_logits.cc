#include "app/adapter_logits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "app/running_model.h"
#include "base/error.h"
#include "base/random.h"
#include "compute/forwarding_backend.h"
#include "io/cast_source.h"
#include "merge/sources/adapter_source.h"
#include "model/block_steps.h"

namespace lewis {
namespace {

constexpr std::array<const char*, 8> kTexts = {
    "The river rose in the night, and by morning the bridge stood alone in a wide brown lake.",
    "Question: A shop sells 12 apples for 3 dollars. What do 20 apples cost?\nAnswer: 5 dollars.",
    "def mean(values):\n    return sum(values) / len(values)\n",
    "{\"name\": \"Ada\", \"born\": 1815, \"fields\": [\"mathematics\", \"computing\"]}",
    "Water boils at 100 degrees Celsius at sea level, and at less on a mountain.",
    "Der Zug nach Hamburg f\xc3\xa4hrt heute von Gleis 7 ab.",
    "User: Can you help me to write a letter?\nAssistant: Of course. Whom is it for?",
    "SELECT city, COUNT(*) FROM orders WHERE paid = 1 GROUP BY city ORDER BY 2 DESC;"};
constexpr size_t kMostTokens = 48;  // of a text

// What stands beside a linear layer [out, in].
struct Beside {
  LowRank product;
  std::vector<float> factors;  // DoRA: magnitude / norm per output; else empty
};

// A weight with what stands beside it, which may be nothing.
class BesideWeight final : public PackedWeight {
 public:
  BesideWeight(std::unique_ptr<PackedWeight> weight, std::shared_ptr<const Beside> beside)
      : inner(std::move(weight)), side(std::move(beside)) {
    out = inner->out, in = inner->in;
  }
  std::unique_ptr<PackedWeight> inner;
  std::shared_ptr<const Beside> side;
};

// A backend whose linear layers have low-rank products beside them: y = W x + scale B (A x) + bias.
// The product is computed in double, by itself, so that it shares nothing with a merge.
class BesideBackend final : public ForwardingBackend {
 public:
  explicit BesideBackend(Backend& inner) : ForwardingBackend(inner) {}

  // The weight that is packed next belongs to this layer. Nothing stands beside it where null.
  void name_next(std::shared_ptr<const Beside> beside) { next_ = std::move(beside); }

  std::unique_ptr<PackedWeight> pack(DType dtype, const std::byte* weight, int64_t out,
                                     int64_t in) override {
    return wrapped(inner_.pack(dtype, weight, out, in));
  }
  std::unique_ptr<PackedWeight> keep(DType dtype, std::shared_ptr<const std::byte> weight,
                                     int64_t out, int64_t in) override {
    return wrapped(inner_.keep(dtype, std::move(weight), out, in));
  }
  void linear(std::span<const LinearCall> calls, const float* x, int64_t rows) override {
    for (const LinearCall& call : calls) {
      product(call.weight, call.bias, x, rows, call.y);
      if (!call.gate) continue;
      std::vector<float> gate(static_cast<size_t>(rows * call.weight.out));
      product(call.gate->weight, call.gate->bias, x, rows, gate.data());
      activate(call.gate->activation, gate.data(), call.y, static_cast<int64_t>(gate.size()));
      std::ranges::copy(gate, call.y);
    }
  }

 private:
  std::unique_ptr<PackedWeight> wrapped(std::unique_ptr<PackedWeight> weight) {
    return std::make_unique<BesideWeight>(std::move(weight), std::exchange(next_, nullptr));
  }

  void product(const PackedWeight& weight, std::span<const float> bias, const float* x,
               int64_t rows, float* y) {
    const auto& w = static_cast<const BesideWeight&>(weight);
    if (!w.side) return inner_.linear(*w.inner, bias, x, rows, y);
    inner_.linear(*w.inner, {}, x, rows, y);
    for (int64_t row = 0; row < rows; ++row)
      add_beside(*w.side, bias, x + row * w.in, y + row * w.out);
  }

  // y [out] of W x becomes factors * (y + scale B (A x)) + bias.
  static void add_beside(const Beside& side, std::span<const float> bias, const float* x,
                         float* y) {
    const LowRank& p = side.product;
    std::vector<double> inner(static_cast<size_t>(p.rank));
    for (int64_t k = 0; k < p.rank; ++k) {
      const float* a = p.right.data() + k * p.columns;
      for (int64_t i = 0; i < p.columns; ++i)
        inner[static_cast<size_t>(k)] += static_cast<double>(a[i]) * static_cast<double>(x[i]);
    }
    for (int64_t o = 0; o < p.rows; ++o) {
      double sum = 0;
      for (int64_t k = 0; k < p.rank; ++k)
        sum += static_cast<double>(p.left[static_cast<size_t>(o * p.rank + k)]) *
               inner[static_cast<size_t>(k)];
      double value = static_cast<double>(y[o]) + static_cast<double>(p.scale) * sum;
      if (!side.factors.empty()) value *= static_cast<double>(side.factors[static_cast<size_t>(o)]);
      if (!bias.empty()) value += static_cast<double>(bias[static_cast<size_t>(o)]);
      y[o] = static_cast<float>(value);
    }
  }

  std::shared_ptr<const Beside> next_;
};

// Magnitude / norm of each output of W + scale B A.
std::vector<float> dora_factors(const TensorSource& base, const AdapterChange& change,
                                const LowRank& p) {
  const std::vector<float> weight = base.read_floats(base.get(change.tensor.name));
  std::vector<float> factors;
  for (int64_t o = 0; o < p.rows; ++o) {
    double squares = 0;
    for (int64_t i = 0; i < p.columns; ++i) {
      double sum = 0;
      for (int64_t k = 0; k < p.rank; ++k)
        sum += static_cast<double>(p.left[static_cast<size_t>(o * p.rank + k)]) *
               static_cast<double>(p.right[static_cast<size_t>(k * p.columns + i)]);
      const double value = static_cast<double>(weight[static_cast<size_t>(o * p.columns + i)]) +
                           static_cast<double>(p.scale) * sum;
      squares += value * value;
    }
    factors.push_back(static_cast<float>(
        static_cast<double>(change.magnitude[static_cast<size_t>(o)]) / std::sqrt(squares)));
  }
  return factors;
}

// Rows [first, first + rows) of a product.
LowRank rows_of(const LowRank& all, int64_t first, int64_t rows) {
  LowRank part = all;
  part.rows = rows;
  const auto begin = all.left.begin() + first * all.rank;
  part.left.assign(begin, begin + rows * all.rank);
  return part;
}

// What stands beside the linear layers of a model, and the tensors that therefore are the base's.
// The products are read when their layer is loaded.
struct BesideLayers {
  struct Rows {
    const AdapterChange* change = nullptr;  // of adapter.changes
    int64_t first = 0, count = 0;
    std::vector<float> factors;  // Beside::factors
  };

  // Null where nothing stands beside the layer.
  std::shared_ptr<const Beside> beside(std::string_view layer) const {
    const auto found = by_layer.find(layer);
    if (found == by_layer.end()) return nullptr;
    const Rows& rows = found->second;
    const auto products = adapter.products->get(*rows.change->factors, rows.change->part);
    return std::make_shared<const Beside>(
        Beside{rows_of(products->front(), rows.first, rows.count), rows.factors});
  }

  ReadAdapter adapter;
  std::map<std::string, Rows, std::less<>> by_layer;  // by LinearLayer::name
  std::vector<std::string> tensors;
};

// Whether the adapter's rows of fused experts are not those of the experts shown one by one, in
// their order.
bool reorders_experts(const InputModel& base) {
  return std::ranges::any_of(base.fused_experts, [](const auto& layout) {
    return layout.second.transposed || layout.second.interleaved;
  });
}

BesideLayers beside_layers(const LogitModels& models, const ModelSpec& spec) {
  BesideLayers layers;
  ReadAdapter& adapter = layers.adapter;
  try {
    adapter = read_adapter(*models.base.source, models.adapter);
  } catch (const Error&) {
    return layers;  // where the experts that are shown one by one do not fit the adapter's
  }
  const bool experts = !reorders_experts(models.base);
  for (int64_t layer = 0; layer < spec.layers; ++layer) {
    for (const LinearLayer& linear : linear_layers(spec, layer)) {
      const auto found = adapter.changes.find(linear.tensor);
      if (found == adapter.changes.end() || (linear.expert >= 0 && !experts)) continue;
      const AdapterChange& change = found->second;
      const bool plain = change.factors && change.rows.empty() && !change.outputs_are_columns &&
                         change.tensor.shape.size() == 2 && change.tensor.shape[1] == linear.in;
      if (!plain) continue;
      BesideLayers::Rows beside{&change, linear.first_row, linear.out, {}};
      if (!change.magnitude.empty()) {
        const auto products = adapter.products->get(*change.factors, change.part);
        const std::vector<float> all = dora_factors(*models.base.source, change, products->front());
        beside.factors.assign(all.begin() + linear.first_row,
                              all.begin() + linear.first_row + linear.out);
      }
      layers.by_layer.emplace(linear.name, std::move(beside));
      layers.tensors.push_back(linear.tensor);
    }
  }
  std::ranges::sort(layers.tensors);
  const auto rest = std::ranges::unique(layers.tensors);
  layers.tensors.erase(rest.begin(), rest.end());
  return layers;
}

// Shows the tensors of `all`, but those of these names from `others`, in the types of `all`.
class ReplacedSource final : public TensorSource {
 public:
  ReplacedSource(std::shared_ptr<const TensorSource> all,
                 std::shared_ptr<const TensorSource> others, std::vector<std::string> names)
      : all_(std::move(all)), others_(std::move(others)), names_(std::move(names)) {
    std::map<std::string, DType> types;
    for (const std::string& name : names_) {
      const DType own = others_->get(name).dtype, shown = all_->get(name).dtype;
      if (own != shown) types[name] = shown;
    }
    others_ = shown_as(others_, types);
  }
  const std::string& label() const override { return all_->label(); }
  const std::vector<TensorInfo>& tensors() const override { return all_->tensors(); }
  void read(const TensorInfo& tensor, int64_t first, std::span<std::byte> out) const override {
    if (!std::ranges::binary_search(names_, tensor.name)) return all_->read(tensor, first, out);
    others_->read(others_->get(tensor.name), first, out);
  }

 private:
  std::shared_ptr<const TensorSource> all_, others_;
  std::vector<std::string> names_;  // sorted
};

// A model that runs, and what it makes of the texts before its head.
struct Running {
  // `layers`, where given, must outlive it.
  Running(InputModel model, Threads& threads, const BesideLayers* layers = nullptr)
      : input(std::move(model)),
        beside(layers),
        plain(make_cpu_backend(threads)),
        backend(*plain),
        transformer(*input.source, spec_of(input), backend, threads) {}

  // `done` counts the layers of all models that run.
  void run(const TokenBatch& batch, const ProgressFn& progress, Progress& done) {
    const ModelSpec& spec = transformer.spec();
    hidden.resize(batch.ids.size() * static_cast<size_t>(spec.hidden));
    transformer.embed_once(batch.ids, hidden);
    const WeightEdit name = [&](std::string_view layer, std::span<float>, int64_t, int64_t) {
      backend.name_next(beside ? beside->beside(layer) : nullptr);
    };
    for (int64_t layer = 0; layer < spec.layers; ++layer) {
      const auto block = transformer.load_block(layer, name);
      transformer.run_block(*block, batch.sequences, hidden);
      ++done.done;
      if (progress) progress(done);
    }
  }

  InputModel input;
  const BesideLayers* beside;  // null: nothing stands beside any layer
  std::unique_ptr<Backend> plain;
  BesideBackend backend;
  Transformer transformer;
  std::vector<float> hidden;
};

// The head of a model that runs, some of the vocabulary at a time: a head of 152,000 x 4096 is
// 2.5 GB in float32.
class HeadBlocks {
 public:
  HeadBlocks(Running& model, int64_t rows) : model_(model), rows_(rows) {
    const ModelSpec& spec = model.transformer.spec();
    const auto head = model.transformer.untied_head();
    tensor_ = &model.input.source->get(
        head ? head->tensor : fmt::format("{}{}.weight", spec.prefix, spec.embeddings));
    if (spec.head_bias)
      bias_ = model.input.source->read_floats(model.input.source->get(spec.head + "bias"));
    input_.resize(static_cast<size_t>(rows * spec.hidden));
    model.transformer.head_input(model.hidden, input_.data());
  }

  // The logits [rows, count] of tokens [first, first + count).
  std::vector<float> logits(int64_t first, int64_t count) {
    const ModelSpec& spec = model_.transformer.spec();
    const size_t row = static_cast<size_t>(spec.hidden) * dtype_size(tensor_->dtype);
    std::vector<std::byte> bytes(static_cast<size_t>(count) * row);
    model_.input.source->read(*tensor_, first * spec.hidden, bytes);
    const auto weight = model_.backend.pack(tensor_->dtype, bytes.data(), count, spec.hidden);
    std::span<const float> bias = bias_;
    if (!bias.empty()) bias = bias.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    std::vector<float> values(static_cast<size_t>(rows_ * count));
    Backend& backend = model_.backend;
    backend.linear(*weight, bias, input_.data(), rows_, values.data());
    const int64_t all = rows_ * count;
    if (spec.logit_multiplier != 1) backend.scale(values.data(), spec.logit_multiplier, all);
    if (spec.logit_softcap != 0) backend.softcap(values.data(), spec.logit_softcap, all);
    return values;
  }

 private:
  Running& model_;
  int64_t rows_;
  const TensorInfo* tensor_ = nullptr;
  std::vector<float> bias_, input_;
};

// |a - b| of all logits: the largest and the mean.
std::pair<double, double> difference(Running& a, Running& b, int64_t rows) {
  constexpr int64_t kTokens = 4096;  // of the vocabulary, at a time
  const int64_t vocab = a.transformer.spec().vocab;
  if (vocab != b.transformer.spec().vocab)
    throw input_error("{}: has {} tokens, expected {}", b.input.label(), b.transformer.spec().vocab,
                      vocab);
  HeadBlocks head_a(a, rows), head_b(b, rows);
  double largest = 0, sum = 0;
  for (int64_t first = 0; first < vocab; first += kTokens) {
    const int64_t count = std::min(kTokens, vocab - first);
    const std::vector<float> of_a = head_a.logits(first, count), of_b = head_b.logits(first, count);
    for (size_t i = 0; i < of_a.size(); ++i) {
      const double d = std::abs(static_cast<double>(of_a[i]) - static_cast<double>(of_b[i]));
      largest = std::max(largest, d);
      sum += d;
    }
  }
  return {largest, sum / (static_cast<double>(rows) * static_cast<double>(vocab))};
}

InputModel with_source(const InputModel& model, std::shared_ptr<const TensorSource> source) {
  InputModel other = model;
  other.source = std::move(source);
  return other;
}

// The adapter merged in float32, and then rounded to the types of the stored model.
std::shared_ptr<const TensorSource> rounded_source(const LogitModels& models) {
  std::map<std::string, DType> types;
  for (const TensorInfo& t : models.adapted.source->tensors()) {
    const TensorInfo* stored = models.stored.source->find(t.name);
    if (stored && is_arithmetic(t.dtype) && is_arithmetic(stored->dtype) &&
        stored->dtype != t.dtype)
      types[t.name] = stored->dtype;
  }
  return shown_as(models.adapted.source, types);
}

// Random tokens, for a model without a tokenizer.
std::vector<std::vector<int32_t>> random_texts(int64_t vocab) {
  std::vector<std::vector<int32_t>> texts(kTexts.size());
  for (size_t text = 0; text < texts.size(); ++text) {
    const TensorRandom random(0, text, "the texts of a proof");
    for (size_t i = 0; i < kMostTokens / 2; ++i)
      texts[text].push_back(static_cast<int32_t>(random.element(i) % static_cast<uint64_t>(vocab)));
  }
  return texts;
}

std::vector<std::vector<int32_t>> token_texts(const InputModel& model, int64_t vocab) {
  if (!model.files().read("tokenizer.json")) return random_texts(vocab);
  const Tokenizer tokenizer = Tokenizer::load(model.files());
  std::vector<std::vector<int32_t>> texts;
  for (const char* text : kTexts) {
    std::vector<int32_t> ids = tokenizer.encode(text, true);
    if (ids.size() > kMostTokens) ids.resize(kMostTokens);
    if (!ids.empty()) texts.push_back(std::move(ids));
  }
  return texts.empty() ? random_texts(vocab) : texts;
}

LogitProof compared(const LogitModels& models, RunResources& run) {
  LogitProof proof;
  const ModelSpec spec = locate_tensors(spec_of(models.adapted), *models.adapted.source);
  const auto texts = token_texts(models.adapted, spec.vocab);
  const TokenBatch batch = make_batch(texts);
  const BesideLayers layers = beside_layers(models, spec);
  Progress done{"comparing logits", "layers", 0, 4 * static_cast<uint64_t>(spec.layers)};
  const auto differ = [&](Running& a, Running& b) {
    a.run(batch, run.progress, done);
    b.run(batch, run.progress, done);
    return difference(a, b, static_cast<int64_t>(batch.ids.size()));
  };
  {
    Running beside(
        with_source(models.adapted, std::make_shared<const ReplacedSource>(
                                        models.adapted.source, models.base.source, layers.tensors)),
        run.threads, &layers);
    Running stored(models.stored, run.threads);
    std::tie(proof.largest, proof.mean) = differ(beside, stored);
  }
  Running merged(models.adapted, run.threads);
  Running rounded(with_source(models.adapted, rounded_source(models)), run.threads);
  std::tie(proof.rounding_largest, proof.rounding_mean) = differ(merged, rounded);
  proof.texts = texts.size();
  proof.tokens = batch.ids.size();
  proof.beside = layers.by_layer.size();
  proof.merged = models.changed - std::min<uint64_t>(models.changed, layers.tensors.size());
  return proof;
}

}  // namespace

LogitProof compare_logits(const LogitModels& models, RunResources& run) {
  try {
    return compared(models, run);
  } catch (const Error& e) {
    if (e.code() != ExitCode::kInput && e.code() != ExitCode::kUsage) throw;
    const std::string why = e.what();
    return {.why_not = why.substr(0, why.find(';'))};  // without the list of what is supported
  }
}

}  // namespace lewis
