// Refined models against the normal equations that they must solve, with activations taken from
// whole forward passes of the experts and of the finished model.
#include "refine/refine.h"
#include "refine/router_solver.h"

#include <gtest/gtest.h>

#include <barrier>
#include <cmath>
#include <functional>
#include <map>
#include <numbers>
#include <random>
#include <thread>

#include "../merge/memory_source.h"
#include "../model/echo_mixer.h"
#include "../model/random_model.h"
#include "base/error.h"
#include "golden_file.h"
#include "io/expert_tensors.h"
#include "temp_dir.h"
#include "test_model.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The tensors of a folder in float32, with noise of `share` of each tensor's size; experts one by
// one where the spec wants to see them so.
MemorySource noisy(const fs::path& folder, const ModelSpec& spec, float share, unsigned seed) {
  std::shared_ptr<const TensorSource> stored =
      std::make_shared<const Checkpoint>(Checkpoint::open(folder));
  if (spec.experts.shown_split)
    stored = split_experts(stored, read_json(folder / "config.json")).source;
  const TensorSource& checkpoint = *stored;
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
      : Case(family, read_model_spec(read_json(family / "config.json"), "config.json"),
             thread_count, noise) {}
  Case(const fs::path& family, const ModelSpec& model_spec, size_t thread_count, float noise)
      : threads(thread_count),
        spec(model_spec),
        sources{noisy(family, spec, noise, 1), noisy(family, spec, noise, 2),
                noisy(family, spec, noise, 3)},
        backend(make_cpu_backend(threads)) {
    for (const MemorySource& s : sources)
      models.push_back(std::make_unique<Transformer>(s, spec, *backend, threads));
    std::mt19937 random(5);
    const auto vocab = static_cast<int32_t>(std::min<int64_t>(spec.vocab, 1000));
    std::uniform_int_distribution<int32_t> id(0, vocab - 1);
    for (auto& text : texts) {
      for (int64_t times = 0; times < text_copies(); ++times) {
        for (const size_t length : {30u, 21u, 25u}) {
          TokenSequence s;
          for (size_t i = 0; i < length; ++i) s.ids.push_back(id(random));
          s.prompt_tokens = length / 3;
          text.push_back(std::move(s));
        }
      }
    }
    options.settings.held_out = 0;
    options.scratch = dir.path / "scratch";
    options.plan = "plan";
  }

  // From now on the prior is known to be a base and a task vector of about this share of it.
  void give_base(const fs::path& family, float noise) {
    base_source = noisy(family, spec, noise, 4);
    base = std::make_unique<Transformer>(base_source, spec, *backend, threads);
  }

  // So many that a routed expert sees about 140 tokens: some are solved, some are not.
  int64_t text_copies() const {
    const ExpertsSpec& e = spec.experts;
    return e.count == 0 ? 1 : 140 * e.count / (2 * 76 * e.chosen) + 1;
  }

  std::map<std::string, std::vector<std::byte>> run() {
    const RefineModels all{*models[0], {models[1].get(), models[2].get()}, base.get()};
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
  MemorySource base_source;
  std::unique_ptr<Transformer> base;  // null: unknown
  std::vector<std::vector<TokenSequence>> texts{2};
  RefineOptions options;
  RefineReport report;
  std::shared_ptr<const TensorSource> refined;
};

fs::path family(const std::string& name) {
  return fs::path(LEWIS_TEST_DATA) / "golden/families" / name;
}

// What a model makes of a text: inputs of the linear layers by (layer, value, routed expert), which
// tokens a routed expert sees, and the hidden states after each block.
using Place = std::tuple<int64_t, Value, int64_t>;
struct Activations {
  std::map<Place, std::vector<float>> inputs;
  std::map<Place, std::vector<int64_t>> rows;
  std::vector<float> hidden;  // the last ones
  std::vector<std::vector<float>> after;
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
      const Place place = {layer, t.value, t.expert};
      a.inputs[place].assign(t.x.data, t.x.data + t.x.rows * t.x.columns);
      a.rows[place].assign(t.rows.begin(), t.rows.end());
    });
    a.after.push_back(a.hidden);
  }
  if (const auto head = model.untied_head()) {
    auto& x = a.inputs[{model.spec().layers, head->input, kDense}];
    x.resize(a.hidden.size());
    model.head_input(a.hidden, x.data());
  }
  return a;
}

// The refined model and the experts, at work on their texts.
struct Finished {
  explicit Finished(Case& c) : whole(c.whole()), model(whole, c.spec, *c.backend, c.threads) {
    for (size_t k = 0; k < 2; ++k) {
      merged.push_back(run_model(model, c.texts[k]));
      expert.push_back(run_model(*c.models[k + 1], c.texts[k]));
    }
  }
  MemorySource whole;
  Transformer model;
  std::vector<Activations> merged, expert;
};

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

// Where the input of a layer is seen.
Place place_of(const Case& c, const LinearLayer& l) {
  return {tensor_layer(l.tensor).value_or(c.spec.layers), l.input, std::max(l.expert, kDense)};
}

// y [rows, out] = x W^T in double.
template <typename Weight>
std::vector<double> product(const std::vector<double>& x, const std::vector<Weight>& w, size_t in) {
  const size_t rows = x.size() / in, out = w.size() / in;
  std::vector<double> y(rows * out);
  for (size_t t = 0; t < rows; ++t) {
    for (size_t o = 0; o < out; ++o) {
      double sum = 0;
      for (size_t j = 0; j < in; ++j) sum += x[t * in + j] * static_cast<double>(w[o * in + j]);
      y[t * out + o] = sum;
    }
  }
  return y;
}

// What the experts read of all tokens: what the router reads, or a linear layer of it.
std::vector<float> routed_values(const TensorSource& source, const BlockSteps& block,
                                 const ExpertsStep& step, const Activations& a) {
  const auto& x = a.inputs.at({block.layer, step.in, kDense});
  if (step.routed_in == step.in) return x;
  for (const Step& other : block.steps) {
    const auto* linears = std::get_if<LinearsStep>(&other.does);
    if (!linears || linears->outputs[0].out != step.routed_in) continue;
    const LinearLayer& l = block.linear(linears->outputs[0].linear);
    auto y = product({x.begin(), x.end()}, rows_of(source, l), static_cast<size_t>(l.in));
    std::vector<float> bias(static_cast<size_t>(l.out));
    if (!l.bias.empty()) bias = source.read_floats(source.get(l.bias));
    for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i % bias.size()];
    return {y.begin(), y.end()};
  }
  return {};
}

// What the router multiplies the inputs of a routed expert by, token by token; empty where its
// weights multiply outputs.
std::vector<double> input_scales(const Case& c, const LinearLayer& l, const Activations& a,
                                 const std::vector<int64_t>& rows) {
  std::vector<double> scales;
  if (!c.spec.experts.scales_input) return scales;
  const int64_t layer = *tensor_layer(l.tensor);
  const BlockSteps block = block_steps(c.models[0]->spec(), layer);
  const auto& whole = a.inputs.at({layer, block.experts()->in, kDense});
  const auto& scaled = a.inputs.at({layer, block.experts()->expert_in, l.expert});
  const auto width = static_cast<size_t>(c.spec.hidden);
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto row = std::span(whole).subspan(static_cast<size_t>(rows[i]) * width, width);
    const auto largest = static_cast<size_t>(
        std::ranges::max_element(row, {}, [](float v) { return std::abs(v); }) - row.begin());
    scales.push_back(static_cast<double>(scaled[i * width + largest]) / row[largest]);
  }
  return scales;
}

// The inputs of a routed expert's layer for some tokens, wherever the model sends those: what its
// MLP as a whole gets, or for the down projection act(gate(x)) * up(x).
std::vector<double> routed_inputs(const TensorSource& source, const Transformer& model,
                                  const LinearLayer& l, const Activations& a,
                                  const std::vector<int64_t>& rows,
                                  const std::vector<double>& scales) {
  const int64_t layer = *tensor_layer(l.tensor);
  const BlockSteps block = block_steps(model.spec(), layer);
  const ExpertsStep& step = *block.experts();
  const auto width = static_cast<size_t>(block.width(step.routed_in));
  const std::vector<float> all = routed_values(source, block, step, a);
  std::vector<double> x;
  for (const int64_t r : rows) {
    const auto begin = all.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(r) * width);
    x.insert(x.end(), begin, begin + static_cast<std::ptrdiff_t>(width));
  }
  for (size_t i = 0; !scales.empty() && i < x.size(); ++i) x[i] *= scales[i / width];
  if (l.role != LinearRole::kDown) return x;
  std::vector<float> gate, up;
  for (const LinearLayer& other : linear_layers(model.spec(), layer)) {
    if (other.expert != l.expert || other.role == LinearRole::kDown) continue;
    auto y = product(x, rows_of(source, other), width);
    if (!other.bias.empty()) {
      const auto bias = source.read_floats(source.get(other.bias));
      for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i % bias.size()];
    }
    (other.role == LinearRole::kGate ? gate : up).assign(y.begin(), y.end());
  }
  const auto n = static_cast<int64_t>(up.size());
  if (gate.empty()) {
    model.activate(layer, up.data(), nullptr, n);
    return {up.begin(), up.end()};
  }
  model.activate(layer, gate.data(), up.data(), n);
  return {gate.begin(), gate.end()};
}

// Tokens of both texts that the layer is fitted to.
size_t fitted_rows(const Case& c, const LinearLayer& l, const std::vector<Activations>& merged) {
  size_t rows = 0;
  for (const Activations& a : merged) {
    const auto found = a.inputs.find(place_of(c, l));
    if (found != a.inputs.end()) rows += found->second.size() / static_cast<size_t>(l.in);
  }
  return rows;
}

// The sums of the normal equations of all layers that read one value, by text: seen_k = X^m^T w X^m
// and wanted_k = X^m^T w X^t, [in, in] each.
struct Gram {
  std::vector<std::vector<double>> seen, wanted;  // empty where no token of a text comes here
  double trace() const {                          // of the sum of `seen`
    double trace = 0;
    for (const std::vector<double>& sums : seen) {
      const auto in = static_cast<size_t>(std::lround(std::sqrt(sums.size())));
      for (size_t j = 0; j < in; ++j) trace += sums[j * in + j];
    }
    return trace;
  }
};

// What was chosen for a layer, or what the settings say.
LayerChoice choice_of(const Case& c, const LinearLayer& l) {
  const auto block = static_cast<size_t>(tensor_layer(l.tensor).value_or(c.spec.layers));
  const std::string own = l.name.substr(l.name.rfind('.') + 1);
  for (const ChoiceRecord& record : c.report.blocks.at(block).choices) {
    const size_t of = record.layers.find(" of expert ");
    const bool same = l.expert < 0 ? of == std::string::npos
                                   : record.layers.ends_with(fmt::format("expert {}", l.expert));
    const std::string names = ", " + record.layers.substr(0, of) + ",";
    if (same && names.find(", " + own + ",") != std::string::npos) return record.choice;
  }
  return choice_table(c.options.settings, false, c.base != nullptr).standard();
}

// The sums as they count by a choice: `wanted` of the teacher's inputs, of each text its factor.
Gram chosen(Gram gram, const LayerChoice& choice) {
  double sum = 0, texts = 0;
  std::vector<double> factors;
  for (const std::vector<double>& sums : gram.seen) {
    double squares = 0;
    for (const double v : sums) squares += v * v;
    factors.push_back(squares > 0 ? 1 / std::sqrt(squares) : 0);
    sum += factors.back();
    texts += squares > 0;
  }
  for (size_t k = 0; k < gram.seen.size(); ++k) {
    const bool norm = choice.weighting == RefineWeighting::kNorm;
    const double factor = norm ? factors[k] * texts / sum : 1;
    for (size_t i = 0; i < gram.seen[k].size(); ++i) {
      double &seen = gram.seen[k][i], &wanted = gram.wanted[k][i];
      wanted = factor * (choice.alpha * wanted + (1 - choice.alpha) * seen);
      seen *= factor;
    }
  }
  return gram;
}

// sum_t w_t a_t^T b_t, [in, in].
std::vector<double> weighted_gram(const std::vector<double>& a, const std::vector<double>& b,
                                  const std::vector<double>& weights, size_t in) {
  std::vector<double> sums(in * in);
  for (size_t t = 0; t < weights.size(); ++t) {
    for (size_t i = 0; i < in; ++i) {
      const double factor = weights[t] * a[t * in + i];
      double* row = &sums[i * in];
      for (size_t j = 0; j < in; ++j) row[j] += factor * b[t * in + j];
    }
  }
  return sums;
}

// X^t is what the target sees: the expert's inputs, or the merged model's. Of a routed expert over
// the tokens that the merged model sends to it.
Gram gram_of(const Case& c, const LinearLayer& l, const std::vector<Activations>& merged,
             const std::vector<Activations>& expert) {
  const bool pp = c.options.settings.method == RefineMethod::kRegmeanPp;
  const Place place = place_of(c, l);
  const auto in = static_cast<size_t>(l.in);
  Gram gram{std::vector<std::vector<double>>(2), std::vector<std::vector<double>>(2)};
  for (size_t k = 0; k < 2; ++k) {
    const auto found = merged[k].inputs.find(place);
    if (found == merged[k].inputs.end()) continue;
    const std::vector<double> x(found->second.begin(), found->second.end());
    std::vector<double> xe = x;
    auto weights = weights_of(c.texts[k], c.options.settings.question_weight);
    if (l.expert >= 0) {
      const auto& rows = merged[k].rows.at(place);
      if (!pp)
        xe = routed_inputs(c.sources[k + 1], *c.models[k + 1], l, expert[k], rows,
                           input_scales(c, l, merged[k], rows));
      std::vector<double> theirs;
      for (const int64_t r : rows) theirs.push_back(weights[static_cast<size_t>(r)]);
      weights = theirs;
    } else if (!pp) {
      const auto& inputs = expert[k].inputs.at(place);
      xe.assign(inputs.begin(), inputs.end());
    }
    gram.seen[k] = weighted_gram(x, x, weights, in);
    gram.wanted[k] = weighted_gram(x, xe, weights, in);
  }
  return gram;
}

// What the layers of a finished model must solve; layers that read one value share their sums.
class Equations {
 public:
  Equations(const Case& c, const Finished& finished) : c_(c), f_(finished) {}

  // max | sum_k X^m^T w (X^m W^T - X^t W_k^T) + rho (W - W_0)^T | / max | sum_k X^m^T w X^t W_k^T |
  double error(const LinearLayer& l) {
    const Place place = place_of(c_, l);
    auto found = grams_.find(place);
    if (found == grams_.end())
      found = grams_.emplace(place, gram_of(c_, l, f_.merged, f_.expert)).first;
    const LayerChoice choice = choice_of(c_, l);
    const Gram gram = chosen(found->second, choice);
    const auto w = rows_of(f_.whole, l);
    auto w0 = rows_of(c_.sources[0], l);
    if (c_.base) {
      const auto from = rows_of(c_.base_source, l);
      for (size_t i = 0; i < w0.size(); ++i)
        w0[i] = from[i] + static_cast<float>(choice.prior_scale) * (w0[i] - from[i]);
    }
    const auto in = static_cast<size_t>(l.in);
    std::vector<double> left(w.size()), right(w.size());
    for (size_t k = 0; k < 2; ++k) {
      if (gram.seen[k].empty()) continue;
      const auto target = rows_of(c_.sources[k + 1], l);
      const auto seen = product({w.begin(), w.end()}, gram.seen[k], in);
      const auto wanted = product({target.begin(), target.end()}, gram.wanted[k], in);
      for (size_t i = 0; i < left.size(); ++i) {
        left[i] += seen[i] - wanted[i];
        right[i] += wanted[i];
      }
    }
    const double rho = choice.ridge * gram.trace() / static_cast<double>(in);
    double error = 0, size = 0;
    for (size_t i = 0; i < left.size(); ++i) {
      error = std::max(error, std::abs(left[i] + rho * (static_cast<double>(w[i]) - w0[i])));
      size = std::max(size, std::abs(right[i]));
    }
    return error / size;
  }

 private:
  const Case& c_;
  const Finished& f_;
  std::map<Place, Gram> grams_;
};

// A router has equations of its own, and a routed expert that sees fewer than 100 tokens stays.
bool stays(const Case& c, const LinearLayer& l, const std::vector<Activations>& merged) {
  return l.role == LinearRole::kRouter || (l.expert >= 0 && fitted_rows(c, l, merged) < 100);
}
bool router_stays(const Case& c) {
  return !c.options.settings.routers || c.options.settings.method != RefineMethod::kRegression;
}

// How exactly the equations hold. A norm of each head behind the gated delta rule makes small
// values, and with them float32's rounding, large.
double tolerance(const Case& c) { return c.spec.attention_gate ? 3e-4 : 1e-5; }

class RefineFamilies : public testing::TestWithParam<fs::path> {};
INSTANTIATE_TEST_SUITE_P(All, RefineFamilies, testing::ValuesIn(golden_families()),
                         [](const auto& test) {
                           return test.param.parent_path().filename().string() + "_" +
                                  test.param.filename().string();
                         });

// Where a mix takes a value apart: the value whose first columns it gives first.
Value first_part_of(const BlockSteps& block, Value value) {
  for (const Step& step : block.steps) {
    const auto* mix = std::get_if<MixStep>(&step.does);
    if (mix && mix->in.size() == 1 && mix->out[0] == value) return mix->in[0];
  }
  return value;
}

// The value itself, or what linear layers read of it: a constant times it (Falcon-H1), with which
// the equations of a norm are the same.
Value tapped(const BlockSteps& block, Value value, const Activations& a, int64_t layer) {
  if (a.inputs.contains({layer, value, kDense})) return value;
  for (const Step& step : block.steps) {
    const auto* mix = std::get_if<MixStep>(&step.does);
    if (!mix || mix->in.size() != 1 || mix->in[0] != value) continue;
    for (const Value out : mix->out) {
      if (a.inputs.contains({layer, out, kDense})) return out;
    }
  }
  return value;
}

// What a norm gives, [tokens, its width]: where it norms the hidden states, as tapped; else
// computed from the linear layer before it.
std::vector<double> norm_output(const TensorSource& source, const ModelSpec& spec,
                                const Activations& a, int64_t layer, const NormStep& norm,
                                const std::string& weight) {
  const BlockSteps block = block_steps(spec, layer);
  if (norm.in == kStream) {
    const auto& x = a.inputs.at({layer, tapped(block, norm.out, a, layer), kDense});
    return {x.begin(), x.end()};
  }
  const BlockNorm& its = block.norms[static_cast<size_t>(norm.norm)];
  const auto width = static_cast<size_t>(its.width);
  const LinearLayer* l = nullptr;
  for (const Step& step : block.steps) {
    const auto* linears = std::get_if<LinearsStep>(&step.does);
    const Value made = first_part_of(block, norm.in);
    for (size_t i = 0; linears && i < linears->outputs.size(); ++i) {
      if (linears->outputs[i].out == made) l = &block.linear(linears->outputs[i].linear);
    }
  }
  if (!l) return {};
  const auto& x = a.inputs.at({layer, l->input, kDense});
  const auto all = product({x.begin(), x.end()}, rows_of(source, *l), static_cast<size_t>(l->in));
  const auto out = static_cast<size_t>(l->out);
  std::vector<float> bias(out);
  if (!l->bias.empty()) bias = source.read_floats(source.get(l->bias));
  std::vector<double> y;
  for (size_t i = 0; i < all.size(); ++i) {
    if (i % out < width) y.push_back(all[i] + bias[i % out]);
  }
  const auto w = source.read_floats(source.get(weight));
  for (size_t row = 0; row < y.size(); row += width) {
    double squares = 0;
    for (size_t j = 0; j < width; ++j) squares += y[row + j] * y[row + j];
    const double scale =
        1 / std::sqrt(squares / static_cast<double>(width) + static_cast<double>(its.spec.epsilon));
    for (size_t j = 0; j < width; ++j) y[row + j] *= scale * (w[j] + (its.spec.plus_one ? 1 : 0));
  }
  return y;
}

// max_j | sum w (c y_0 - y_e) y_0 + ridge sum w y_0^2 (c - 1) | / sum w y_0^2, where y_0 is the
// prior's weight on what the finished model normalises, c the factor on it.
double norm_error(const Case& c, const std::string& name, int64_t layer, const NormStep& step,
                  const std::vector<Activations>& merged, const std::vector<Activations>& expert,
                  const MemorySource& whole) {
  const BlockSteps block = block_steps(c.models[0]->spec(), layer);
  const BlockNorm& its = block.norms[static_cast<size_t>(step.norm)];
  const double one = its.spec.plus_one ? 1 : 0;
  const auto width = static_cast<size_t>(its.width);
  const auto w0 = c.sources[0].read_floats(c.sources[0].get(name));
  const auto w1 = whole.read_floats(whole.get(name));
  std::vector<double> left(width), squares(width);
  for (size_t k = 0; k < 2; ++k) {
    const auto ym = norm_output(whole, c.models[0]->spec(), merged[k], layer, step, name);
    const auto ye =
        norm_output(c.sources[k + 1], c.models[k + 1]->spec(), expert[k], layer, step, name);
    EXPECT_FALSE(ym.empty()) << name;
    EXPECT_EQ(ym.size(), ye.size()) << name;
    const auto weights = weights_of(c.texts[k], c.options.settings.question_weight);
    for (size_t i = 0; i < ym.size(); ++i) {
      const size_t j = i % width;
      const double y0 = ym[i] * (w0[j] + one) / (w1[j] + one);
      left[j] += weights[i / width] * (ym[i] - ye[i]) * y0;
      squares[j] += weights[i / width] * y0 * y0;
    }
  }
  double error = 0;
  for (size_t j = 0; j < width; ++j) {
    EXPECT_GT(squares[j], 0) << name;
    const double factor = (w1[j] + one) / (w0[j] + one);
    error =
        std::max(error, std::abs(left[j] / squares[j] +
                                 c.options.settings.ridge.value_or(kDefaultRidge) * (factor - 1)));
  }
  return error;
}

// Norms before and after attention and the MLP, in all families that have them.
void check_norms(const Case& c, const Finished& f) {
  size_t norms = 0;
  for (int64_t layer = 0; layer < c.spec.layers; ++layer) {
    const BlockSteps block = block_steps(f.model.spec(), layer);
    for (const Step& step : block.steps) {
      const auto* norm = std::get_if<NormStep>(&step.does);
      if (!norm || norm->norm == kNoIndex) continue;
      ++norms;
      // Gemma 4's norms around its experts: no linear layer reads or makes these values alone.
      const std::string& norm_name = block.norms[static_cast<size_t>(norm->norm)].name;
      const bool of_sum =
          c.spec.experts.beside_mlp && norm_name.ends_with("post_feedforward_layernorm");
      if (of_sum || norm_name.ends_with("feedforward_layernorm_2")) continue;
      const std::string name = block.norms[static_cast<size_t>(norm->norm)].name + ".weight";
      if (c.spec.norm.bias) {
        EXPECT_FALSE(c.refined->find(name)) << name << " has a bias and stays";
        continue;
      }
      EXPECT_TRUE(c.refined->find(name)) << name;
      EXPECT_LT(norm_error(c, name, layer, *norm, f.merged, f.expert, f.whole),
                std::max(1e-4, tolerance(c)))
          << name;
    }
  }
  const BlockNorms& n = f.model.spec().norms;
  size_t named = 0;
  for (int64_t layer = 0; layer < c.spec.layers; ++layer) {
    const LayerSpec& l = c.spec.layer[static_cast<size_t>(layer)];
    if (l.mixes) named += !n.before_attention.empty() + !n.after_attention.empty();
    if (l.feeds) named += !n.before_mlp.empty() + !n.after_mlp.empty();
    for (const BlockNorm& norm : block_steps(f.model.spec(), layer).norms)
      named += norm.name.ends_with("_a_layernorm") ||  // of latent vectors
               norm.name.ends_with("layernorm_1") || norm.name.ends_with("layernorm_2") ||
               norm.name.ends_with("post_per_layer_input_norm");
  }
  EXPECT_EQ(norms, named);
}

// Every linear layer of every block, fed with what the finished model gives it, is at the minimum.
// So are the norms, which only regression solves.
TEST_P(RefineFamilies, SolvesTheNormalEquations) {
  for (const RefineMethod method : {RefineMethod::kRegression, RefineMethod::kRegmeanPp}) {
    Case c(GetParam());
    c.options.settings.method = method;
    c.run();
    const Finished f(c);
    Equations equations(c, f);
    if (method == RefineMethod::kRegression) check_norms(c, f);
    if (const auto head = f.model.untied_head()) {
      EXPECT_LT(equations.error(*head), tolerance(c)) << name_of(method) << " head";
    }
    size_t solved = 0;  // layers of routed experts
    for (int64_t layer = 0; layer < c.spec.layers; ++layer) {
      for (const LinearLayer& l : linear_layers(f.model.spec(), layer)) {
        if (stays(c, l, f.merged)) {
          EXPECT_EQ(rows_of(f.whole, l) == rows_of(c.sources[0], l),
                    l.role != LinearRole::kRouter || router_stays(c))
              << l.name;
          continue;
        }
        solved += l.expert >= 0;
        // Gemma 4's experts read a norm of their own, which no tap sees of all tokens.
        const bool unseen = l.expert >= 0 && c.spec.experts.beside_mlp;
        if (unseen && method == RefineMethod::kRegression) continue;
        EXPECT_LT(equations.error(l), tolerance(c)) << name_of(method) << " " << l.name;
      }
    }
    EXPECT_EQ(solved > 0, std::ranges::any_of(c.spec.layer, &LayerSpec::routed));
  }
}

// Numbers that held-out text chooses, layer by layer: what was chosen is solved, in every family.
// The equations are those of the texts that are fitted to.
TEST_P(RefineFamilies, SolvesTheNormalEquationsOfWhatWasChosen) {
  Case c(GetParam());
  c.give_base(GetParam(), 0.3f);
  RefineSettings& settings = c.options.settings;
  settings.held_out = 0.34;
  settings.alpha = settings.ridge = settings.prior_scale = std::nullopt;
  settings.weighting = std::nullopt;
  c.run();
  for (auto& text : c.texts)
    text.resize(text.size() -
                static_cast<size_t>(std::lround(0.34 * static_cast<double>(text.size()))));
  const Finished f(c);
  Equations equations(c, f);
  size_t others = 0;  // layers for which something else than the default was chosen
  for (int64_t layer = 0; layer < c.spec.layers; ++layer) {
    const BlockResult& block = c.report.blocks[static_cast<size_t>(layer)];
    for (const ChoiceRecord& record : block.choices) {
      EXPECT_LE(record.error, record.error_default) << record.layers;
      others += record.choice != LayerChoice();
    }
    for (const LinearLayer& l : linear_layers(f.model.spec(), layer)) {
      if (block.kept_prior || stays(c, l, f.merged)) continue;
      if (l.expert >= 0 && c.spec.experts.beside_mlp) continue;  // as above
      EXPECT_LT(equations.error(l), tolerance(c)) << l.name;
    }
  }
  EXPECT_GT(others, 0u);
}

// Numbers that are given: the equations with those, and the same bytes whether something is held
// out to choose the others or not.
TEST(Refine, SolvesWithTheNumbersThatAreGiven) {
  for (const char* name : {"llama", "qwen2", "qwen2_moe"}) {
    Case c(family(name));
    c.give_base(family(name), 0.3f);
    c.options.settings.alpha = 0.4;
    c.options.settings.ridge = 0.2;
    c.options.settings.prior_scale = 1.5;
    c.options.settings.weighting = RefineWeighting::kNorm;
    c.run();
    const Finished f(c);
    Equations equations(c, f);
    for (const BlockResult& block : c.report.blocks) EXPECT_TRUE(block.choices.empty());
    for (int64_t layer = 0; layer < c.spec.layers; ++layer) {
      for (const LinearLayer& l : linear_layers(f.model.spec(), layer)) {
        if (!stays(c, l, f.merged)) {
          EXPECT_LT(equations.error(l), tolerance(c)) << l.name;
        }
      }
    }
  }
}

// A mixer that src/ knows nothing of, in every other layer: its linear layers are solved stage by
// stage, its norm as well, and its own tensors stay.
TEST(Refine, SolvesTheLayersOfANewMixer) {
  const RandomModel random({{"max_position_embeddings", 100}}, std::make_shared<EchoMixer>());
  for (const RefineMethod method : {RefineMethod::kRegression, RefineMethod::kRegmeanPp}) {
    Case c(random.dir.path, random.spec, 2, 0.1f);
    c.options.settings.method = method;
    const auto tensors = c.run();
    EXPECT_FALSE(tensors.contains("model.layers.0.self_attn.decay"));
    EXPECT_EQ(tensors.contains("model.layers.0.self_attn.q_norm.weight"),
              method == RefineMethod::kRegression);
    const Finished f(c);
    Equations equations(c, f);
    for (int64_t layer = 0; layer < c.spec.layers; ++layer) {
      for (const LinearLayer& l : linear_layers(c.spec, layer)) {
        EXPECT_TRUE(tensors.contains(l.tensor)) << l.name;
        EXPECT_LT(equations.error(l), 1e-5) << name_of(method) << " " << l.name;
      }
    }
  }
}

TEST(Refine, ThreadsAndHeldOutTextOfANewMixer) {
  const RandomModel random(Json::object(), std::make_shared<EchoMixer>());
  const auto result = [&](size_t thread_count, uint64_t max_memory) {
    Case c(random.dir.path, random.spec, thread_count, 0.1f);
    c.options.settings.held_out = 0.3;
    c.options.settings.ridge = 3;
    c.options.max_memory = max_memory;
    return c.run();
  };
  const auto one = result(1, 0);
  EXPECT_FALSE(one.empty());
  EXPECT_EQ(one, result(3, 0));
  const Case c(random.dir.path, random.spec, 1, 0.1f);
  const RefineModels all{*c.models[0], {c.models[1].get(), c.models[2].get()}};
  auto settings = c.options.settings;
  settings.ridge = 3;
  EXPECT_EQ(one, result(2, block_memory(all, lay_out_text(c.texts, 0.3, 0.1), settings)));
}

TEST_P(RefineFamilies, MuchRidgeGivesThePrior) {
  Case c(GetParam());
  c.options.settings.ridge = 1e200;
  for (const auto& [name, bytes] : c.run()) {
    std::vector<std::byte> prior(bytes.size());
    c.sources[0].read(c.sources[0].get(name), 0, prior);
    EXPECT_EQ(bytes, prior) << name;
  }
}

// y [rows, out] = x W^T + bias in double.
std::vector<double> scores_of(const TensorSource& source, const LinearLayer& router,
                              const std::vector<double>& x) {
  auto y = product(x, rows_of(source, router), static_cast<size_t>(router.in));
  if (router.bias.empty()) return y;
  const auto bias = source.read_floats(source.get(router.bias));
  for (size_t i = 0; i < y.size(); ++i) y[i] += bias[i % bias.size()];
  return y;
}

// p, and what diag(p) - p p^T or diag(p (1 - p)) makes of u, in place.
void weigh_scores(RouterMetric metric, const double* wanted, size_t experts, double weight,
                  double* u) {
  std::vector<double> p(wanted, wanted + experts);
  double sum = 0, mean = 0;
  for (double& v : p) {
    v = metric == RouterMetric::kSoftmax ? std::exp(v) : 1 / (1 + std::exp(-v));
    sum += v;
  }
  for (size_t e = 0; e < experts && metric == RouterMetric::kSoftmax; ++e) {
    p[e] /= sum;
    mean += p[e] * u[e];
  }
  for (size_t e = 0; e < experts; ++e)
    u[e] = weight * p[e] * (metric == RouterMetric::kSoftmax ? u[e] - mean : (1 - p[e]) * u[e]);
}

// How far the router of a layer is from its minimum, relative to the right side: its gradient,
// token by token in double.
double error_of_router(const Case& c, const Finished& f, int64_t layer) {
  const BlockSteps block = block_steps(c.spec, layer);
  const ExpertsStep& step = *block.experts();
  const LinearLayer& router = block.linear(step.router);
  const RouterMetric metric = metric_of(c.spec.experts.router);
  const auto in = static_cast<size_t>(router.in), experts = static_cast<size_t>(router.out);
  const double alpha = c.options.settings.alpha.value();
  std::vector<double> change;
  const auto now = rows_of(f.whole, router), before = rows_of(c.sources[0], router);
  for (size_t i = 0; i < now.size(); ++i) change.push_back(static_cast<double>(now[i]) - before[i]);
  std::vector<double> left(change.size()), right(change.size()), diagonal(change.size());
  for (size_t k = 0; k < 2; ++k) {
    const auto& xm = f.merged[k].inputs.at({layer, step.in, kDense});
    const auto& xe = f.expert[k].inputs.at({layer, step.in, kDense});
    const std::vector<double> x(xm.begin(), xm.end());
    std::vector<double> teacher(x.size());
    for (size_t i = 0; i < x.size(); ++i) teacher[i] = alpha * xe[i] + (1 - alpha) * xm[i];
    const auto theirs =
        linear_layers(c.models[k + 1]->spec(), layer).at(static_cast<size_t>(step.router));
    const auto wanted = scores_of(c.sources[k + 1], theirs, teacher);
    const auto scores = scores_of(c.sources[0], router, x);
    const auto moved = product(x, change, in);
    const auto weights = weights_of(c.texts[k], c.options.settings.question_weight);
    for (size_t t = 0; t < weights.size(); ++t) {
      std::vector<double> u(moved.begin() + static_cast<std::ptrdiff_t>(t * experts),
                            moved.begin() + static_cast<std::ptrdiff_t>((t + 1) * experts));
      std::vector<double> r(experts), ones(experts);
      for (size_t e = 0; e < experts; ++e) r[e] = wanted[t * experts + e] - scores[t * experts + e];
      weigh_scores(metric, &wanted[t * experts], experts, weights[t], u.data());
      weigh_scores(metric, &wanted[t * experts], experts, weights[t], r.data());
      for (size_t e = 0; e < experts; ++e) {
        std::vector<double> unit(experts);
        unit[e] = 1;
        weigh_scores(metric, &wanted[t * experts], experts, weights[t], unit.data());
        for (size_t j = 0; j < in; ++j) {
          left[e * in + j] += u[e] * x[t * in + j];
          right[e * in + j] += r[e] * x[t * in + j];
          diagonal[e * in + j] += unit[e] * x[t * in + j] * x[t * in + j];
        }
      }
    }
  }
  double mean = 0, error = 0, size = 0;
  for (const double v : diagonal) mean += v / static_cast<double>(diagonal.size());
  const double rho = c.options.settings.ridge.value() * mean;
  for (size_t i = 0; i < left.size(); ++i) {
    const double value = 0.9 * left[i] + (0.1 * diagonal[i] + rho) * change[i];
    error = std::max(error, std::abs(value - right[i]));
    size = std::max(size, std::abs(right[i]));
  }
  return error / size;
}

// Softmax over all experts or over the chosen ones, sigmoids, biases, a shared expert.
TEST(Refine, RoutersAreAtTheirMinimum) {
  for (const char* name : {"mixtral", "qwen2_moe", "qwen3_moe", "gpt_oss", "minimax_m2"}) {
    for (const double alpha : {1.0, 0.25}) {
      Case c(family(name));
      c.options.settings.alpha = alpha;
      c.run();
      const Finished f(c);
      for (int64_t layer = 0; layer < c.spec.layers; ++layer) {
        if (!c.spec.layer[static_cast<size_t>(layer)].routed) continue;
        EXPECT_LT(error_of_router(c, f, layer), 1e-4) << name << " " << layer;
        const BlockResult& block = c.report.blocks[static_cast<size_t>(layer)];
        ASSERT_EQ(block.routers.size(), 2u);
        for (const RouterChoices& r : block.routers) EXPECT_GT(r.after, r.before - 0.05) << name;
      }
    }
  }
}

// Pulled to the prior with all might, the merged stream of a mixture is what the prior itself makes
// of the held-out text.
TEST(Refine, MuchRidgeGivesThePriorsStream) {
  for (const char* name : {"mixtral", "qwen2_moe", "qwen3_moe", "gemma4"}) {
    Case c(family(name));
    c.options.settings.ridge = 1e200;
    c.options.settings.held_out = 0.3;
    c.run();
    for (const BlockResult& block : c.report.blocks) {
      EXPECT_GT(block.error_prior, 1e-4) << name;
      EXPECT_NEAR(block.error_solved / block.error_prior, 1, 1e-5) << name;
    }
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
// the expert. (Embeddings and head stay the prior's, so those are the same here, and so are the
// routers.)
TEST(Refine, OneExpertIsReproduced) {
  for (const char* name : {"qwen2", "mixtral", "mixtral_fused"}) {
    const fs::path folder = std::string_view(name) == "mixtral_fused"
                                ? fs::path(LEWIS_TEST_DATA) / "golden/variants" / name
                                : family(name);
    Case c(folder, 2, 0);
    c.sources[1] = noisy(folder, c.spec, 0.1f, 2);
    for (const TensorInfo& t : c.sources[0].tensors()) {
      if (t.name.find("_proj") != std::string::npos || t.name.find(".w") < t.name.rfind(".weight"))
        continue;
      const auto values = c.sources[0].read_floats(t);
      c.sources[1].remove(t.name);
      c.sources[1].add(t.name, t.dtype, t.shape, values);
    }
    c.models[1] = std::make_unique<Transformer>(c.sources[1], c.spec, *c.backend, c.threads);
    if (c.spec.experts.count > 0) {  // so that every expert sees enough
      c.texts[0].insert(c.texts[0].end(), c.texts[1].begin(), c.texts[1].end());
      auto backwards = c.texts[0];
      for (TokenSequence& sequence : backwards) std::ranges::reverse(sequence.ids);
      c.texts[0].insert(c.texts[0].end(), backwards.begin(), backwards.end());
    }
    c.texts.resize(1);
    c.options.settings.ridge = 0;
    const RefineModels all{*c.models[0], {c.models[1].get()}};
    c.refined = open_refined(refine(all, c.texts, c.options, c.report), "refined");
    const MemorySource whole = c.whole();
    const Transformer finished(whole, c.spec, *c.backend, c.threads);
    const auto expert = run_model(*c.models[1], c.texts[0]).hidden;
    EXPECT_GT(relative_error(run_model(*c.models[0], c.texts[0]).hidden, expert), 0.05) << name;
    EXPECT_LT(relative_error(run_model(finished, c.texts[0]).hidden, expert), 2e-4) << name;
  }
}

// RegMean's own formula: W^T = (sum_k G~_k)^-1 sum_k G~_k W_k^T satisfies sum_k G~_k (W - W_k)^T =
// 0.
TEST(Refine, RegMeanIsItsFormula) {
  Case c(family("llama"));
  c.options.settings.method = RefineMethod::kRegmean;
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
      const auto& x = expert[k].inputs.at({1, l.input, kDense});
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

class RefineBits : public testing::TestWithParam<const char*> {};
// The second one lends keys and values to later blocks.
INSTANTIATE_TEST_SUITE_P(Some, RefineBits, testing::Values("phi3", "gemma4"));

TEST_P(RefineBits, ThreadsAndSpillingDoNotChangeThem) {
  const auto result = [](size_t thread_count, uint64_t max_memory) {
    Case c(family(GetParam()), thread_count);
    c.options.settings.held_out = 0.3;
    c.options.settings.ridge = 3;  // so that blocks are kept
    c.options.max_memory = max_memory;
    return c.run();
  };
  const auto one = result(1, 0);
  EXPECT_FALSE(one.empty());
  EXPECT_EQ(one, result(2, 0));
  EXPECT_EQ(one, result(7, 0));
  Case c(family(GetParam()));
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

TEST(Refine, ThreadsDoNotChangeABitOfRoutedExperts) {
  const auto result = [](size_t thread_count) {
    Case c(family("qwen2_moe"), thread_count);
    c.options.settings.held_out = 0.3;
    c.options.settings.ridge = 3;
    const auto tensors = c.run();
    bool counted = false;
    for (const BlockResult& block : c.report.blocks) {
      for (const std::string& note : block.notes)
        counted = counted || note.find("of 8 routed experts see fewer than 100") != note.npos;
    }
    EXPECT_TRUE(counted) << "experts that keep the prior";
    return tensors;
  };
  const auto one = result(1);
  EXPECT_FALSE(one.empty());
  EXPECT_EQ(one, result(2));
  EXPECT_EQ(one, result(7));
}

// What refining is said to take: to the byte on disk, where no block is left as merged.
TEST(Refine, SaysWhatItTakes) {
  for (const char* name : {"llama", "qwen2", "gemma2", "qwen2_moe"}) {
    Case c(family(name));
    const RefineModels all{*c.models[0], {c.models[1].get(), c.models[2].get()}};
    const RefineCost cost = refine_cost(all, c.texts, c.options.settings, 0);
    uint64_t tokens = 0, bytes = 0;
    for (const auto& text : c.texts) {
      for (const TokenSequence& s : text) tokens += s.ids.size();
    }
    EXPECT_EQ(cost.tokens, tokens) << name;
    for (const auto& [tensor, stored] : c.run()) bytes += stored.size();
    const uint64_t streams = 4 * tokens * static_cast<uint64_t>(c.spec.hidden) * sizeof(float);
    if (c.spec.experts.count > 0) {  // some experts see too little
      EXPECT_GE(cost.disk, bytes + streams) << name;
    } else {
      EXPECT_EQ(cost.disk, bytes + streams) << name;
    }
    EXPECT_EQ(cost.peak_memory, cost.least_memory + streams) << name;
    const RefineCost least = refine_cost(all, c.texts, c.options.settings, cost.least_memory);
    EXPECT_EQ(least.peak_memory, cost.least_memory) << name;
    EXPECT_EQ(least.disk, cost.disk + streams) << name;
    EXPECT_THROW(refine_cost(all, c.texts, c.options.settings, cost.least_memory - 1), Error);
  }
}

// Interrupted at every step and resumed: the bytes of a run that was left in peace.
TEST_P(RefineBits, AreTheSameAfterAnInterrupt) {
  Case peace(family(GetParam()));
  peace.options.settings.held_out = 0.3;
  peace.options.settings.ridge = 3;  // so that blocks are kept
  const auto expected = peace.run();
  EXPECT_FALSE(expected.empty());
  for (int stop = 1;; stop += 5) {
    Case c(family(GetParam()));
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
    EXPECT_EQ(c.report.blocks.size(), peace.report.blocks.size());
  }
}

// sum w (a - b)^2 / sum w b^2, where each row has a weight.
double weighted_error(const std::vector<float>& a, const std::vector<float>& b,
                      const std::vector<double>& weights) {
  const size_t columns = a.size() / weights.size();
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double w = weights[i / columns];
    difference += w * std::pow(static_cast<double>(a[i]) - b[i], 2);
    size += w * std::pow(static_cast<double>(b[i]), 2);
  }
  return difference / size;
}

// The errors that blocks tell, of the held-out text, are those of the finished model. So keys and
// values that later blocks read again are those of the model that comes out, whether the block that
// lends them is refined or stays.
TEST(Refine, LaterBlocksReadTheFinishedKeysOfEarlierOnes) {
  size_t refined = 0, stayed = 0;  // blocks that lend
  for (const char* name : {"gemma4", "gemma4_moe_shared", "gemma4_moe", "qwen2_moe"}) {
    for (const double ridge : {1e-9, 3.0}) {
      const bool variant = std::string_view(name).ends_with("_shared");
      Case c(variant ? fs::path(LEWIS_TEST_DATA) / "golden/variants" / name : family(name));
      c.options.settings.ridge = ridge;
      c.options.settings.held_out = 0.34;
      c.run();
      for (int64_t layer = 0; layer < c.spec.layers; ++layer) {
        if (!c.spec.layer[static_cast<size_t>(layer)].lends_kv) continue;
        c.report.blocks[static_cast<size_t>(layer)].kept_prior ? ++stayed : ++refined;
      }
      for (auto& text : c.texts) {
        const auto held = std::lround(0.34 * static_cast<double>(text.size()));
        text.erase(text.begin(), text.end() - held);
      }
      const Finished f(c);
      for (size_t layer = 0; layer < static_cast<size_t>(c.spec.layers); ++layer) {
        double error = 0;
        for (size_t k = 0; k < 2; ++k) {
          const auto weights = weights_of(c.texts[k], c.options.settings.question_weight);
          error += weighted_error(f.merged[k].after[layer], f.expert[k].after[layer], weights) / 2;
        }
        const BlockResult& block = c.report.blocks[layer];
        const double told = block.kept_prior ? block.error_prior : block.error_solved;
        EXPECT_NEAR(error / told, 1, 1e-4) << name << " " << ridge << " block " << layer;
      }
    }
  }
  EXPECT_GT(refined, 0u);
  EXPECT_GT(stayed, 0u);
}

TEST(Refine, RefusesModelsThatShareOtherKeys) {
  Case c(family("gemma4"));
  ModelSpec other = c.spec;
  auto& sources = other.layer;
  const auto reads =
      std::ranges::find_if(sources, [](const LayerSpec& l) { return l.kv_source != kNoSource; });
  ASSERT_NE(reads, sources.end());
  reads->kv_source = reads->kv_source == 0 ? 1 : 0;
  c.models[2] = std::make_unique<Transformer>(c.sources[2], other, *c.backend, c.threads);
  try {
    c.run();
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("num_kv_shared_layers"), std::string::npos) << e.what();
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

// Threads in place of processes, which tell each other what Communicator says.
struct SharedMemory {
  explicit SharedMemory(size_t count) : barrier(static_cast<std::ptrdiff_t>(count)), size(count) {}
  std::barrier<> barrier;
  size_t size;
  std::vector<std::byte> bytes;
  std::vector<double> sums;
};
class ThreadRanks final : public Communicator {
 public:
  ThreadRanks(SharedMemory& memory, size_t rank) : memory_(memory), rank_(rank) {}
  size_t rank() const override { return rank_; }
  size_t size() const override { return memory_.size; }
  void broadcast(std::span<std::byte> bytes, size_t from) const override {
    if (rank_ == from) memory_.bytes.assign(bytes.begin(), bytes.end());
    memory_.barrier.arrive_and_wait();
    EXPECT_EQ(memory_.bytes.size(), bytes.size());
    if (rank_ != from) std::ranges::copy(memory_.bytes, bytes.begin());
    memory_.barrier.arrive_and_wait();
  }
  void collect(std::span<std::byte> bytes, size_t from) const override {
    if (rank_ == from) memory_.bytes.assign(bytes.begin(), bytes.end());
    memory_.barrier.arrive_and_wait();
    if (rank_ == 0 && from != 0) std::ranges::copy(memory_.bytes, bytes.begin());
    memory_.barrier.arrive_and_wait();
  }
  void join(std::span<double> values) const override {
    for (size_t turn = 0; turn < size(); ++turn) {
      if (turn == rank_) {
        if (turn == 0) memory_.sums.assign(values.size(), 0.0);
        for (size_t i = 0; i < values.size(); ++i) {
          EXPECT_TRUE(values[i] == 0 || memory_.sums[i] == 0) << "two have a value";
          memory_.sums[i] += values[i];
        }
      }
      memory_.barrier.arrive_and_wait();
    }
    std::ranges::copy(memory_.sums, values.begin());
    memory_.barrier.arrive_and_wait();
  }

 private:
  SharedMemory& memory_;
  size_t rank_;
};

struct Refined {
  std::map<std::string, std::vector<std::byte>> tensors;
  std::vector<double> errors;
  bool operator==(const Refined&) const = default;
};

// What the first of several processes writes. Each has models of its own.
Refined refine_together(size_t processes, const std::function<std::unique_ptr<Case>()>& make) {
  std::vector<std::unique_ptr<Case>> cases;
  for (size_t rank = 0; rank < processes; ++rank) {
    cases.push_back(make());
    cases.back()->options.scratch = cases[0]->options.scratch;
  }
  SharedMemory memory(processes);
  std::vector<std::shared_ptr<RefineJournal>> journals(processes);
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < processes; ++rank) {
    threads.emplace_back([&, rank] {
      Case& c = *cases[rank];
      const ThreadRanks ranks(memory, rank);
      const RefineModels all{*c.models[0], {c.models[1].get(), c.models[2].get()}, nullptr, ranks};
      journals[rank] = refine(all, c.texts, c.options, c.report);
    });
  }
  for (std::thread& thread : threads) thread.join();
  Refined result;
  for (size_t rank = 1; rank < processes; ++rank) EXPECT_EQ(journals[rank], nullptr);
  for (const BlockResult& block : cases[0]->report.blocks) {
    result.errors.push_back(block.error_solved);
    result.errors.push_back(block.error_prior);
  }
  const auto source = open_refined(journals[0], "refined");
  for (const TensorInfo& t : source->tensors()) {
    result.tensors[t.name].resize(byte_size(t));
    source->read(t, 0, result.tensors[t.name]);
  }
  return result;
}

Refined refine_alone(Case& c) {
  Refined result{c.run(), {}};
  for (const BlockResult& block : c.report.blocks) {
    result.errors.push_back(block.error_solved);
    result.errors.push_back(block.error_prior);
  }
  return result;
}

// Attention, mixers with a state, routed and shared experts, biases, keys that later layers read
// again: the bits of one process.
TEST(RefineTogether, AnyNumberOfProcessesHasTheBitsOfOne) {
  for (const char* name : {"qwen2", "qwen2_moe", "falcon_h1", "gemma3", "gemma4"}) {
    const auto make = [&] {
      auto c = std::make_unique<Case>(family(name), 1);
      c->options.settings.held_out = 0.3;
      c->options.settings.norms = c->options.settings.head = true;
      c->options.settings.ridge = 0.5;
      return c;
    };
    const Refined alone = refine_alone(*make());
    EXPECT_FALSE(alone.tensors.empty()) << name;
    for (const size_t processes : {2, 3})
      EXPECT_TRUE(refine_together(processes, make) == alone) << name << " " << processes;
  }
}

// Layers and a head of several panels, Gram matrices of several tiles (RegMean's, which are never
// those of tokens), hidden states in files, and a text without held-out part.
TEST(RefineTogether, PanelsAndFiles) {
  const RandomModel random(
      {{"intermediate_size", 2300}, {"vocab_size", 2100}, {"num_hidden_layers", 2}});
  for (const double held_out : {0.0, 0.3}) {
    const auto make = [&] {
      auto c = std::make_unique<Case>(random.dir.path, random.spec, 1, 0.1f);
      c->options.settings.held_out = held_out;
      if (held_out > 0) c->options.settings.method = RefineMethod::kRegmean;
      c->options.settings.head = true;
      c->options.settings.ridge = 3;
      const RefineModels all{*c->models[0], {c->models[1].get(), c->models[2].get()}};
      c->options.max_memory =
          block_memory(all, lay_out_text(c->texts, held_out, 0.1), c->options.settings);
      return c;
    };
    const Refined alone = refine_alone(*make());
    EXPECT_GT(alone.tensors.count("lm_head.weight"), 0u);
    EXPECT_TRUE(refine_together(3, make) == alone);
  }
}

}  // namespace
}  // namespace lewis
