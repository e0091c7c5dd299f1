#include "merge/sources/adapter_changes.h"

#include <algorithm>
#include <set>
#include <tuple>

#include "base/error.h"
#include "base/suggest.h"
#include "io/tensor_names.h"
#include "io/tied_head.h"
#include "merge/sources/adapter_experts.h"

namespace lewis {
namespace {

using Entry = SafetensorsFile::Entry;

constexpr size_t kMostCompared = 20'000;  // names that the nearest one is looked for among
constexpr size_t kMostListed = 5;

// The tensors of the adapter that belong to one module.
struct ModuleParts {
  const Entry *a = nullptr, *b = nullptr, *bias = nullptr, *magnitude = nullptr;
  const Entry *embedding_a = nullptr, *embedding_b = nullptr;
  const Entry* alpha = nullptr;  // kohya's, beside lora_down and lora_up
};

// Sorts the tensors of an adapter file by what they change and checks each against the base.
class AdapterReader {
 public:
  AdapterReader(const TensorSource& base, const AdapterConfig& config, const SafetensorsFile& file)
      : base_(base),
        names_(base),
        head_(find_head(base.tensors())),
        config_(config),
        file_(file),
        where_(file.path().string()) {
    check_adapter_names();
  }

  size_t renamed() const { return renamed_.size(); }

  // Lines on what the adapter leaves as it is, though its configuration names it.
  std::vector<std::string> notes() const { return notes_; }

  AdapterChanges read() {
    if (file_.entries().empty()) throw input_error("{}: holds no tensors", where_);
    for (const Entry& entry : file_.entries()) sort_in(entry);
    for (const auto& [module, parts] : modules_) {
      if (const auto parameter = wrapped_parameter(module, parts)) {
        add_experts_change(*parameter, parts);
        continue;
      }
      check_parts(module, parts);
      add_low_rank_change(module, parts);
      if (parts.bias) add_bias(module, *parts.bias);
    }
    check_rows();
    check_tokens();
    for (const std::string& name : config_.target_modules) check_target(name);
    return std::move(changes_);
  }

 private:
  Error refuse(const Entry& entry, std::string_view why) const {
    return input_error("{}: tensor {} {}", where_, entry.info.name, why);
  }

  // "X.lora_A.NAME.weight" in parts; `kind` is empty for a whole tensor. PEFT leaves the adapter's
  // name out when it saves, other programs leave it in.
  struct Key {
    std::string_view module, kind, adapter, tail;  // X, "lora_A", NAME, "weight"
  };
  static Key split_key(std::string_view name) {
    const size_t at = name.rfind(".lora_");
    if (at == std::string_view::npos) return {name, {}, {}, {}};
    Key key{name.substr(0, at), name.substr(at + 1), {}, {}};
    const size_t first = key.kind.find('.');
    if (first == std::string_view::npos) return key;
    key.adapter = key.kind.substr(first + 1);
    key.kind = key.kind.substr(0, first);
    const size_t last = key.adapter.rfind('.') + 1;  // 0 where there is no dot
    const std::string_view end = key.adapter.substr(last);
    if (end != "weight" && end != "bias") return key;
    key.tail = end;
    key.adapter = key.adapter.substr(0, last == 0 ? 0 : last - 1);
    return key;
  }

  // All keys must be of one adapter.
  void check_adapter_names() const {
    std::set<std::string_view> names;
    for (const Entry& entry : file_.entries()) names.insert(split_key(entry.info.name).adapter);
    names.erase("");
    if (names.size() < 2) return;
    throw input_error("{}: holds several adapters ({}): save one of them by itself", where_,
                      fmt::join(names, ", "));
  }

  // "base_model.model.X.lora_A[.NAME].weight" -> lora_A of module X; without ".lora_" the whole
  // tensor X, which PEFT may call X.base_layer or X.modules_to_save.NAME.
  void sort_in(const Entry& entry) {
    std::string name = entry.info.name;
    constexpr std::string_view kPrefix = "base_model.model.";
    if (name.starts_with(kPrefix)) name.erase(0, kPrefix.size());
    constexpr std::string_view kTokens = ".token_adapter.trainable_tokens_delta";
    if (const size_t at = name.find(kTokens); at != std::string::npos)
      return add_token_rows(name.substr(0, at), entry);
    // mlx-lm calls DoRA's magnitudes X.m.
    if (config_.mlx && config_.dora && name.ends_with(".m"))
      name.replace(name.size() - 1, 1, "lora_magnitude_vector");
    const std::string owner = name.substr(0, name.rfind('.'));
    if (name.ends_with(".alpha") && file_.find(owner + ".lora_down.weight"))
      return put(modules_[module_in_base(owner)].alpha, entry);
    const Key key = split_key(name);
    if (key.kind.empty()) {
      if (const size_t at = name.find(".token_adapter."); at != std::string::npos)
        name.erase(at, std::string_view(".token_adapter").size());
      const size_t layer = name.rfind(".base_layer.");
      if (layer != std::string::npos) name.erase(layer, std::string_view(".base_layer").size());
      return add_replaced(without_saved_module(name), entry);
    }
    const std::string part = fmt::format("{}{}{}", key.kind, key.tail.empty() ? "" : ".", key.tail);
    ModuleParts& parts = modules_[module_in_base(std::string(key.module))];
    const Entry** place = part == (config_.mlx ? "lora_a" : "lora_A.weight")   ? &parts.a
                          : part == (config_.mlx ? "lora_b" : "lora_B.weight") ? &parts.b
                          : part == "lora_down.weight"                         ? &parts.a
                          : part == "lora_up.weight"                           ? &parts.b
                          : part == "lora_B.bias"                              ? &parts.bias
                          : part == "lora_embedding_A"                         ? &parts.embedding_a
                          : part == "lora_embedding_B"                         ? &parts.embedding_b
                          : part == "lora_magnitude_vector"                    ? &parts.magnitude
                          : part == "lora_magnitude_vector.weight"             ? &parts.magnitude
                                                                               : nullptr;
    if (!place) throw refuse(entry, "is of a kind that is not known");
    put(*place, entry);
  }

  void put(const Entry*& place, const Entry& entry) const {
    if (place) throw refuse(entry, "says again what tensor " + place->info.name + " says");
    place = &entry;
  }

  static std::string with_underscores(std::string_view name) {
    std::string module(name.substr(0, name.rfind('.')));
    std::ranges::replace(module, '.', '_');
    return module;
  }

  // kohya's programs write lora_te_model_layers_0_mlp_up_proj for model.layers.0.mlp.up_proj. A
  // name that means no module of the base, or two of them, stays as it is.
  std::string module_in_base(const std::string& module) {
    if (module.find('.') != std::string::npos || names_.find(module + ".weight")) return module;
    if (underscored_.empty()) {
      for (const TensorInfo& t : base_.tensors()) {
        if (!t.name.ends_with(".weight")) continue;
        const std::string own = t.name.substr(0, t.name.rfind('.'));
        for (const std::string& spelled : {t.name, canonical_name(t.name)}) {
          const auto [at, is_new] = underscored_.emplace(with_underscores(spelled), own);
          if (!is_new && at->second != own) at->second.clear();
        }
      }
    }
    for (const char* prefix : {"", "lora_te_", "lora_te1_", "lora_unet_", "lora_transformer_",
                               "lora_llm_", "lycoris_", "lora_"}) {
      if (!module.starts_with(prefix)) continue;
      const auto found = underscored_.find(module.substr(std::string_view(prefix).size()));
      if (found != underscored_.end() && !found->second.empty()) return found->second;
    }
    return module;
  }

  // Returns whether an embedding or a head of the adapter has more rows than the base's: the
  // vocabulary was enlarged before the adapter was trained.
  bool has_more_rows(const TensorInfo& own, const TensorInfo& tensor) const {
    const bool of_vocabulary = (head_.embedding && head_.embedding->name == tensor.name) ||
                               (head_.head && head_.head->name == tensor.name);
    return of_vocabulary && own.shape.size() == 2 && tensor.shape.size() == 2 &&
           own.shape[1] == tensor.shape[1] && own.shape[0] > tensor.shape[0];
  }

  // "X.modules_to_save.NAME.weight" -> "X.weight".
  static std::string without_saved_module(const std::string& name) {
    constexpr std::string_view kSaved = ".modules_to_save.";
    const size_t at = name.find(kSaved), last = name.rfind('.');
    if (at == std::string::npos || last < at + kSaved.size()) return name;
    return name.substr(0, at) + name.substr(last);
  }

  void add_replaced(const std::string& name, const Entry& entry) {
    TensorInfo tensor = target(name, entry);
    if (has_more_rows(entry.info, tensor)) tensor.shape = entry.info.shape;
    if (entry.info.shape != tensor.shape) {
      throw refuse(entry, fmt::format("is {}, but {} of {} is {}", to_string(entry.info.shape),
                                      name, base_.label(), to_string(tensor.shape)));
    }
    const bool arithmetic = is_arithmetic(entry.info.dtype) && is_arithmetic(tensor.dtype);
    if (entry.info.dtype != tensor.dtype && !arithmetic) {
      throw refuse(entry, fmt::format("is {}, but {} of {} is {}", dtype_name(entry.info.dtype),
                                      name, base_.label(), dtype_name(tensor.dtype)));
    }
    AdapterChange& change = change_of(tensor);
    if (change.replaced)
      throw refuse(entry, "says again what tensor " + change.replaced->info.name + " says");
    change.replaced = &entry;
  }

  // Whole rows of an embedding, which PEFT calls a delta.
  void add_token_rows(const std::string& module, const Entry& entry) {
    const TensorInfo& tensor = arithmetic_target(module + ".weight", entry);
    const std::vector<int64_t>* tokens = config_.tokens_of(module);
    if (!tokens)
      throw refuse(entry,
                   "is not used: trainable_token_indices of adapter_config.json lists no "
                   "tokens of " +
                       module);
    if (tensor.shape.size() != 2)
      throw refuse(entry, fmt::format("changes rows of {}, which is {}", tensor.name,
                                      to_string(tensor.shape)));
    const auto count = static_cast<int64_t>(tokens->size()), width = tensor.shape[1];
    expect_shape(entry, {count, width}, tensor, ", and trainable_token_indices");
    const std::vector<float> values = floats(entry);
    AdapterChange& change = change_of(tensor);
    if (!change.rows.empty()) throw refuse(entry, "changes the rows of another key");
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = (*tokens)[static_cast<size_t>(i)];
      if (row >= tensor.shape[0])
        throw refuse(entry, fmt::format("changes token {}, but {} of {} is {}", row, tensor.name,
                                        base_.label(), to_string(tensor.shape)));
      change.rows[row] = {values.begin() + i * width, values.begin() + (i + 1) * width};
    }
  }

  // The tensor of the base that `entry` changes, by any spelling of its name.
  const TensorInfo& target(const std::string& name, const Entry& entry) const {
    if (const TensorInfo* tensor = names_.find(name)) {
      if (tensor->name != name) renamed_.insert(tensor->name);
      return *tensor;
    }
    std::string wrapper;
    canonical_name(name, &wrapper);
    if (!wrapper.empty())
      wrapper = fmt::format(" (the adapter was saved from a wrapped model, '{}')", wrapper);
    throw refuse(entry, fmt::format("has nothing to change: {} has no tensor {}{}{}{}",
                                    base_.label(), name, wrapper, nearest(name), others(name)));
  }

  // The nearest of the base's names, unless it is far.
  std::string nearest(const std::string& name) const {
    std::vector<std::string_view> known;
    for (const TensorInfo& t : base_.tensors()) known.push_back(t.name);
    if (known.empty() || known.size() > kMostCompared) return "";
    return fmt::format("; the nearest is {}", nearest_name(name, known));
  }

  // The other modules of the adapter that belong to no tensor of the base.
  std::string others(const std::string& name) const {
    if (!config_.target_parameters.empty()) return "";
    std::vector<std::string> lost;
    for (const auto& [module, parts] : modules_) {
      if (module + ".weight" != name && !names_.find(module + ".weight")) lost.push_back(module);
    }
    if (lost.empty()) return "";
    const size_t all = lost.size();
    if (all > kMostListed) lost.resize(kMostListed);
    return fmt::format("; {} other module{} of the adapter {} in it either: {}{}", all,
                       all == 1 ? "" : "s", all == 1 ? "is not" : "are not", fmt::join(lost, ", "),
                       all > kMostListed ? ", ..." : "");
  }

  // Whether "X.weight" of the base is a module that a name of target_modules means. Experts are
  // left out: transformers may hold them as parameters, which these names do not reach.
  static bool is_meant(const TensorInfo& t, const std::string& name) {
    const std::string weight = name + ".weight";
    return t.shape.size() == 2 && (t.name == weight || t.name.ends_with("." + weight)) &&
           t.name.find(".experts.") == std::string::npos;
  }

  void check_target(const std::string& name) {
    const TensorInfo* first = nullptr;
    size_t meant = 0, changed = 0;
    for (const TensorInfo& t : base_.tensors()) {
      if (!is_meant(t, name)) continue;
      ++meant;
      if (changes_.contains(t.name)) {
        ++changed;
      } else if (!first) {
        first = &t;
      }
    }
    if (!first) return;
    if (changed == 0)
      throw input_error(
          "{}: target_modules names {}, and {} has {}, but {} has no key of such a module",
          config_.file.string(), name, base_.label(), first->name, where_);
    const size_t others = meant - changed - 1;
    notes_.push_back(fmt::format(
        "{}: has keys for {} of the {} modules {} of the base: {}{}", where_, changed, meant, name,
        first->name,
        others ? fmt::format(" and {} more stay as they are", others) : " stays as it is"));
  }

  const TensorInfo& arithmetic_target(const std::string& name, const Entry& entry) const {
    const TensorInfo& tensor = target(name, entry);
    if (is_arithmetic(tensor.dtype)) return tensor;
    throw refuse(entry, fmt::format("changes {} of {}, which is {}: expected F32, F16 or BF16",
                                    name, base_.label(), dtype_name(tensor.dtype)));
  }

  AdapterChange& change_of(const TensorInfo& tensor) {
    const auto [place, is_new] = changes_.try_emplace(tensor.name);
    if (is_new) place->second.tensor = tensor;
    return place->second;
  }

  void check_parts(const std::string& module, const ModuleParts& p) const {
    for (const auto& [here, there, missing] :
         {std::tuple{p.a, p.b, "lora_B"}, std::tuple{p.b, p.a, "lora_A"},
          std::tuple{p.embedding_a, p.embedding_b, "lora_embedding_B"},
          std::tuple{p.embedding_b, p.embedding_a, "lora_embedding_A"}}) {
      if (here && !there) throw refuse(*here, fmt::format("has no {} beside it", missing));
    }
    if (p.a && p.embedding_a)
      throw refuse(*p.a, "stands beside " + p.embedding_a->info.name + ": only one can be");
    const Entry* a = p.a ? p.a : p.embedding_a;
    for (const Entry* rest : {p.bias, p.magnitude, p.alpha}) {
      if (rest && !a) throw refuse(*rest, "has no lora_A beside it");
    }
    if (p.bias && (!config_.bias || !p.a))
      throw refuse(*p.bias, "is not used: lora_bias is not set in adapter_config.json");
    if (p.magnitude && !config_.dora)
      throw refuse(*p.magnitude, "is not used: use_dora is not set in adapter_config.json");
    if (config_.dora && !p.magnitude)
      throw refuse(*a, fmt::format("has no {}.lora_magnitude_vector beside it", module));
    if (config_.bias && p.a && !p.bias)
      throw refuse(*p.a, fmt::format("has no {}.lora_B.bias beside it", module));
  }

  void add_low_rank_change(const std::string& module, const ModuleParts& parts) {
    const Entry& a = parts.a ? *parts.a : *parts.embedding_a;
    const Entry& b = parts.b ? *parts.b : *parts.embedding_b;
    AdapterChange& change = change_of(arithmetic_target(module + ".weight", a));
    const TensorInfo tensor = change.tensor;
    if (change.factors)
      throw refuse(a, "changes " + tensor.name + ", which another key changes too");
    if (tensor.shape.size() != 2) {
      throw refuse(a, fmt::format("changes {}, which is {}: only matrices can be changed",
                                  tensor.name, to_string(tensor.shape)));
    }
    const bool columns = parts.embedding_a || config_.fan_in_fan_out;
    const std::string key = pattern_key(config_, module);
    const int64_t rank = config_.rank_of(key);
    const int64_t in = tensor.shape[columns ? 0 : 1], out = tensor.shape[columns ? 1 : 0];
    check_rank(a, b, rank);
    const char* hint = parts.a ? ", or another fan_in_fan_out in adapter_config.json" : "";
    expect_shape(a, config_.mlx ? Shape{in, rank} : Shape{rank, in}, tensor, hint);
    expect_shape(b, config_.mlx ? Shape{rank, out} : Shape{out, rank}, tensor, hint);
    if (parts.magnitude) expect_shape(*parts.magnitude, {out}, tensor, "");
    const auto scale = static_cast<float>(
        parts.alpha ? alpha_of(*parts.alpha) / static_cast<double>(rank) : config_.scale_of(key));
    change.outputs_are_columns = columns;
    check_values(a);
    check_values(b);
    change.factors = std::make_shared<const FactorPlaces>(
        FactorPlaces{&a, &b, rank, scale, config_.mlx, columns, config_.misreading, {}, false});
    if (parts.magnitude && config_.misreading != Misreading::kNoMagnitude)
      change.magnitude = floats(*parts.magnitude);
  }

  double alpha_of(const Entry& alpha) const {
    if (element_count(alpha.info.shape) != 1)
      throw refuse(alpha, fmt::format("is {}, expected one number", to_string(alpha.info.shape)));
    return static_cast<double>(floats(alpha)[0]);
  }

  void check_rank(const Entry& a, const Entry& b, int64_t rank) const {
    if (a.info.shape.size() != 2 || b.info.shape.size() != 2) return;
    const int64_t of_a = a.info.shape[config_.mlx ? 1 : 0],
                  of_b = b.info.shape[config_.mlx ? 0 : 1];
    if (of_a != of_b || of_a == rank) return;
    throw refuse(a, fmt::format("has rank {}, expected {} (r and rank_pattern of {})", of_a, rank,
                                config_.file.string()));
  }

  // The parameter that the keys of `module` change, if they change one with experts: of several,
  // PEFT calls the first X.base_layer and the last X.
  std::optional<WrappedParameter> wrapped_parameter(std::string module,
                                                    const ModuleParts& parts) const {
    constexpr std::string_view kInner = ".base_layer";
    size_t level = 0;
    for (; module.ends_with(kInner); ++level) module.erase(module.size() - kInner.size());
    const Entry* entry = parts.a ? parts.a : parts.b;
    if (config_.target_parameters.empty() || !entry) return {};
    try {
      auto parameters = wrapped_parameters(config_, names_, module);
      if (parameters.empty()) return {};
      bool whole = true;
      for (size_t i = 0; i < parameters.size(); ++i, module += kInner)
        whole = whole && modules_.contains(module);
      if (level >= parameters.size() || !whole) {
        throw input_error(
            "belongs to a module with {} changed parameters, of which this file has {}",
            parameters.size(), level >= parameters.size() ? "more" : "fewer");
      }
      return std::move(parameters[parameters.size() - 1 - level]);
    } catch (const Error& e) {
      if (e.code() != ExitCode::kInput) throw;
      throw refuse(*entry, e.what());
    }
  }

  // Experts that transformers keeps as one parameter [experts, rows, columns].
  void add_experts_change(const WrappedParameter& parameter, const ModuleParts& parts) {
    for (const Entry* other :
         {parts.bias, parts.magnitude, parts.embedding_a, parts.embedding_b, parts.alpha}) {
      if (other) throw refuse(*other, "stands beside changes of whole parameters, which have none");
    }
    if (!parts.a || !parts.b)
      throw refuse(parts.a ? *parts.a : *parts.b,
                   fmt::format("has no lora_{} beside it", parts.a ? "B" : "A"));
    const Entry &a = *parts.a, &b = *parts.b;
    const int64_t rank = config_.rank_of(parameter.key);
    if (parameter.experts > INT32_MAX || a.info.shape.size() != 2 || b.info.shape.size() != 2 ||
        a.info.shape[0] != rank * parameter.experts || b.info.shape[1] != a.info.shape[0])
      throw refuse(
          a, fmt::format("is {} and lora_B {}, expected {} times {} rows and as many columns "
                         "(r and the experts of {})",
                         to_string(a.info.shape), to_string(b.info.shape), rank, parameter.experts,
                         parameter.key));
    const auto scale = static_cast<float>(config_.scale_of(parameter.key));
    const bool rows = inputs_are_rows(parameter, a, b);
    check_values(a);
    check_values(b);
    auto places = std::make_shared<FactorPlaces>(
        FactorPlaces{&a, &b, rank, scale, false, false, config_.misreading, parameter, rows});
    for (WrappedParameter::Part& part : places->experts->parts) part.tensor = nullptr;
    for (size_t i = 0; i < parameter.parts.size(); ++i) {
      const TensorInfo& tensor = arithmetic_target(parameter.parts[i].tensor->name, a);
      AdapterChange& change = change_of(tensor);
      if (change.factors)
        throw refuse(a, "changes " + tensor.name + ", which another key changes too");
      change.factors = places;
      change.part = i;
    }
  }

  bool inputs_are_rows(const WrappedParameter& parameter, const Entry& a, const Entry& b) const {
    try {
      return inputs_of_adapter_are_rows(config_, parameter, a.info.shape[1], b.info.shape[0]);
    } catch (const Error& e) {
      throw refuse(a, e.what());
    }
  }

  // Every module with trained tokens must have its rows here.
  void check_tokens() const {
    size_t found = 0;
    for (const auto& [name, change] : changes_) found += change.rows.empty() ? 0 : 1;
    if (found >= config_.tokens.size()) return;
    throw input_error(
        "{}: trainable_token_indices lists tokens of {} modules, but {} has the rows of {}",
        config_.file.string(), config_.tokens.size(), where_, found);
  }

  // Embeddings and head must keep the same number of rows.
  void check_rows() const {
    if (!head_.embedding || !head_.head) return;
    const auto rows = [&](const TensorInfo& t) {
      const auto change = changes_.find(t.name);
      return (change == changes_.end() ? t : change->second.tensor).shape[0];
    };
    const int64_t embedding = rows(*head_.embedding), head = rows(*head_.head);
    if (embedding == head || head_.embedding->shape[0] != head_.head->shape[0]) return;
    throw input_error(
        "{}: the adapter enlarges the vocabulary: {} gets {} rows, but {} has {}; save the adapter "
        "with both (PEFT's save_embedding_layers=True)",
        where_, head_.embedding->name, embedding, head_.head->name, head);
  }

  void add_bias(const std::string& module, const Entry& bias) {
    const TensorInfo& tensor = arithmetic_target(module + ".bias", bias);
    expect_shape(bias, tensor.shape, tensor, "");
    if (tensor.shape.size() != 1) throw refuse(bias, "changes a bias that is not a vector");
    const auto scale = static_cast<float>(config_.scale_of(module));
    check_values(bias);
    change_of(tensor).factors =
        std::make_shared<const FactorPlaces>(FactorPlaces{.b = &bias, .scale = scale});
  }

  void expect_shape(const Entry& entry, const Shape& shape, const TensorInfo& tensor,
                    std::string_view hint) const {
    if (entry.info.shape == shape) return;
    throw refuse(entry,
                 fmt::format("is {}, expected {} (r and {} of {}){}", to_string(entry.info.shape),
                             to_string(shape), tensor.name, to_string(tensor.shape), hint));
  }

  void check_arithmetic(const Entry& entry) const {
    if (is_arithmetic(entry.info.dtype)) return;
    throw refuse(entry,
                 fmt::format("is {}, expected F32, F16 or BF16", dtype_name(entry.info.dtype)));
  }

  Error not_finite(const Entry& entry) const {
    return refuse(entry, "holds a value that is not finite (NaN or infinity)");
  }

  // Values that are read later must be finite now.
  void check_values(const Entry& entry) const {
    check_arithmetic(entry);
    if (!values_are_finite(file_, entry)) throw not_finite(entry);
  }

  std::vector<float> floats(const Entry& entry) const {
    check_arithmetic(entry);
    std::vector<float> values = read_values(file_, entry);
    if (!all_finite(values)) throw not_finite(entry);
    return values;
  }

  const TensorSource& base_;
  NameIndex names_;
  HeadTensors head_;  // of the base
  const AdapterConfig& config_;
  const SafetensorsFile& file_;
  std::string where_;
  mutable std::set<std::string> renamed_;  // tensors of the base that are spelled otherwise
  std::vector<std::string> notes_;
  std::map<std::string, std::string> underscored_;  // module_in_base's; "" where two are meant
  std::map<std::string, ModuleParts> modules_;
  AdapterChanges changes_;
};

}  // namespace

AdapterChanges read_adapter_changes(const TensorSource& base, const AdapterConfig& config,
                                    const SafetensorsFile& file, size_t* renamed,
                                    std::vector<std::string>* notes) {
  AdapterReader reader(base, config, file);
  AdapterChanges changes = reader.read();
  if (renamed) *renamed = reader.renamed();
  if (notes) *notes = reader.notes();
  return changes;
}

}  // namespace lewis
