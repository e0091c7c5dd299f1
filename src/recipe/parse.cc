// YAML -> Recipe, strictly.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <span>

#include "base/error.h"
#include "base/suggest.h"
#include "base/text_file.h"
#include "io/hub_cache.h"
#include "recipe/nodes.h"
#include "recipe/recipe.h"
#include "recipe/yaml.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Kind = YamlNode::Kind;
using Names = std::span<const std::string_view>;

// Parameters of mergekit's methods that belong to one model ...
constexpr std::array<std::string_view, 5> kModelParameters = {"density", "epsilon", "gamma",
                                                              "scale", "weight"};
// ... and those that belong to the whole merge: mergekit ignores them under a model without a word.
constexpr std::array<std::string_view, 15> kGlobalParameters = {"alpha",
                                                                "eps",
                                                                "filter_wise",
                                                                "int8_mask",
                                                                "lambda",
                                                                "max_iter",
                                                                "normalize",
                                                                "normalize_weights",
                                                                "nuslerp_flatten",
                                                                "nuslerp_row_wise",
                                                                "r",
                                                                "rescale",
                                                                "select_topk",
                                                                "t",
                                                                "tol"};

class Documents;

// Parses one document.
class Parser {
 public:
  // `documents`: where the names of other documents lead.
  Parser(const fs::path& file, Documents& documents)
      : file_(file), where_(where_of(file)), documents_(documents) {}

  static std::string where_of(const fs::path& file) {
    return file.empty() ? "recipe" : file.string();
  }

  Recipe recipe(const YamlNode& root) {
    static constexpr std::array<std::string_view, 13> kKeys = {
        "merge_method",  "base_model", "models",    "slices",    "modules",
        "parameters",    "dtype",      "out_dtype", "tokenizer", "tokenizer_source",
        "chat_template", "lewis",      "name"};
    check_keys(root, kKeys, "the recipe");
    Recipe r;
    r.file = file_;
    r.line = root.line;
    if (const YamlNode* n = given(root, "name")) r.name = text_of(*n, "name");
    r.merge_method = text_of(need(root, "merge_method"), "merge_method");
    if (const YamlNode* n = given(root, "dtype")) r.dtype = dtype_of(*n, "dtype");
    if (const YamlNode* n = given(root, "out_dtype")) r.out_dtype = dtype_of(*n, "out_dtype");
    r.tokenizer = parse_tokenizer(root, where_);
    if (const YamlNode* n = given(root, "chat_template"))
      r.chat_template = text_of(*n, "chat_template");
    if (const YamlNode* n = given(root, "parameters")) r.parameters = parameters_of(*n, false);
    inputs(root, r);
    if (const YamlNode* n = given(root, "lewis")) r.lewis = lewis_of(*n, r);
    return r;
  }

 private:
  [[noreturn]] void fail(int line, std::string_view message) const {
    throw usage_error("{}:{}: {}", where_, line, message);
  }

  void check_keys(const YamlNode& map, Names known, std::string_view what) const {
    if (map.kind != Kind::kMap) fail(map.line, fmt::format("{} must be a map of keys", what));
    for (const auto& [key, _] : map.entries) {
      if (std::find(known.begin(), known.end(), key.scalar) == known.end()) {
        fail(key.line, fmt::format("unknown key '{}' in {}; did you mean '{}'?", key.scalar, what,
                                   nearest_name(key.scalar, known)));
      }
    }
  }

  const YamlNode& need(const YamlNode& map, std::string_view key) const {
    const YamlNode* n = map.find(key);
    if (n == nullptr) fail(map.line, fmt::format("'{}' is missing", key));
    return *n;
  }

  // A key that is there and not null.
  static const YamlNode* given(const YamlNode& map, std::string_view key) {
    const YamlNode* n = map.find(key);
    return n && !n->is_null() ? n : nullptr;
  }

  std::string text_of(const YamlNode& n, std::string_view what) const {
    if (n.kind != Kind::kScalar || n.is_null() || n.scalar.empty())
      fail(n.line, fmt::format("'{}' must be a text", what));
    return n.scalar;
  }

  double number_of(const YamlNode& n, std::string_view what) const {
    const std::string& s = n.scalar;
    if (n.kind == Kind::kScalar && n.plain) {
      if (s == "true" || s == "True" || s == "TRUE" || s == "yes" || s == "on") return 1;
      if (s == "false" || s == "False" || s == "FALSE" || s == "no" || s == "off") return 0;
    }
    double value = 0;
    const char* begin = s.data() + (s.starts_with('+') ? 1 : 0);
    const auto [end, error] = std::from_chars(begin, s.data() + s.size(), value);
    if (n.kind != Kind::kScalar || s.empty() || error != std::errc() ||
        end != s.data() + s.size() || !std::isfinite(value)) {
      fail(n.line, fmt::format("{} must be a number, found {}", what, shown(n)));
    }
    return value;
  }

  static std::string shown(const YamlNode& n) {
    return n.kind == Kind::kScalar ? "'" + n.scalar + "'"
           : n.kind == Kind::kList ? "a list"
                                   : "a map";
  }

  uint64_t count_of(const YamlNode& n, std::string_view what) const {
    const double value = number_of(n, what);
    if (value < 0 || value != std::floor(value) || value > 1e15)
      fail(n.line, fmt::format("{} must be a whole number, found {}", what, shown(n)));
    return static_cast<uint64_t>(value);
  }

  DType dtype_of(const YamlNode& n, std::string_view what) const {
    const auto dtype = dtype_from_torch_name(text_of(n, what));
    if (!dtype || !is_arithmetic(*dtype)) {
      fail(n.line, fmt::format("{} {} is not known; expected bfloat16, float16 or float32", what,
                               shown(n)));
    }
    return *dtype;
  }

  // ---- parameters ----

  double checked(const YamlNode& n, std::string_view name) const {
    const double value = number_of(n, name);
    if (name == "density" && !(value >= 0 && value <= 1))
      fail(n.line, fmt::format("density {} is outside [0, 1]", n.scalar));
    return value;
  }

  SettingValue value_of(const YamlNode& n, std::string_view name) const {
    if (n.kind != Kind::kList) return checked(n, name);
    if (n.items.empty()) fail(n.line, fmt::format("{} is an empty list", name));
    Gradient gradient;
    for (const YamlNode& item : n.items) gradient.push_back(checked(item, name));
    return gradient;
  }

  Condition condition_of(const YamlNode& n, std::string_view name) const {
    static constexpr std::array<std::string_view, 2> kKeys = {"filter", "value"};
    check_keys(n, kKeys, fmt::format("a condition of {}", name));
    Condition c;
    if (const YamlNode* filter = given(n, "filter")) c.filter = text_of(*filter, "filter");
    if (c.filter == "*") c.filter.clear();
    c.value = value_of(need(n, "value"), name);
    return c;
  }

  ParameterSetting setting_of(const YamlNode& n, std::string_view name) const {
    if (n.kind == Kind::kMap) return std::vector<Condition>{condition_of(n, name)};
    const bool conditional =
        n.kind == Kind::kList && std::any_of(n.items.begin(), n.items.end(),
                                             [](const auto& i) { return i.kind == Kind::kMap; });
    if (!conditional)
      return std::visit([](auto v) { return ParameterSetting(v); }, value_of(n, name));
    std::vector<Condition> conditions;
    for (const YamlNode& item : n.items) conditions.push_back(condition_of(item, name));
    return conditions;
  }

  Parameters parameters_of(const YamlNode& map, bool of_model) const {
    std::vector<std::string_view> known(kModelParameters.begin(), kModelParameters.end());
    known.insert(known.end(), kGlobalParameters.begin(), kGlobalParameters.end());
    check_keys(map, known, "parameters");
    Parameters parameters;
    for (const auto& [key, value] : map.entries) {
      const bool global = std::find(kGlobalParameters.begin(), kGlobalParameters.end(),
                                    key.scalar) != kGlobalParameters.end();
      if (of_model && global) {
        fail(key.line, fmt::format("'{}' is a parameter of the whole merge: write it under the "
                                   "recipe's own parameters",
                                   key.scalar));
      }
      if (!value.is_null()) parameters[key.scalar] = setting_of(value, key.scalar);
    }
    return parameters;
  }

  // ---- models ----

  // As written, then beside the recipe; a model also in the local cache of the Hugging Face hub.
  fs::path resolve_path(const std::string& written, int line, std::string_view what,
                        bool folder) const {
    if (!folder) {
      if (const auto found = find_path(written, fs::is_regular_file)) return *found;
      fail(line,
           fmt::format("{} {}: no such file (looked from the working directory and beside the "
                       "recipe)",
                       what, written));
    }
    if (const auto found = find_folder(written)) return *found;
    if (const auto cached = find_in_hub_cache(written)) return *cached;
    fail(line, fmt::format("{} {}: no such folder (looked from the working directory, beside the "
                           "recipe and in the hub cache {})",
                           what, written, hub_cache_folder().string()));
  }

  std::optional<fs::path> find_path(const std::string& written,
                                    bool (*fits)(const fs::path& path)) const {
    if (fits(written)) return written;
    const fs::path beside = file_.parent_path() / written;
    return !file_.empty() && fits(beside) ? std::optional(beside) : std::nullopt;
  }

  std::optional<fs::path> find_folder(const std::string& written) const {
    return find_path(written, fs::is_directory);
  }

  // "PATH@REVISION" of a map {path, revision}, or a text as it is.
  std::string path_text(const YamlNode& n, std::string_view what) const {
    if (n.kind != Kind::kMap) return text_of(n, what);
    static constexpr std::array<std::string_view, 2> kKeys = {"path", "revision"};
    check_keys(n, kKeys, what);
    const std::string path = text_of(need(n, "path"), "path");
    const YamlNode* revision = given(n, "revision");
    return revision ? path + "@" + text_of(*revision, "revision") : path;
  }

  // A model as mergekit writes it, as one text or as a map of model and lora.
  RecipeModel model_of(const YamlNode& n, std::string_view what) const {
    RecipeModel m;
    m.line = n.line;
    std::string base, adapter;
    if (n.kind == Kind::kMap && !n.find("path")) {
      static constexpr std::array<std::string_view, 3> kKeys = {"model", "lora",
                                                                "override_architecture"};
      check_keys(n, kKeys, what);
      base = path_text(need(n, "model"), "model");
      if (const YamlNode* lora = given(n, "lora")) adapter = path_text(*lora, "lora");
      m.model = adapter.empty() ? base : base + "+" + adapter;
    } else {
      base = m.model = path_text(n, what);
      const size_t plus = base.find('+');
      if (plus != std::string::npos && !find_folder(base)) {
        adapter = base.substr(plus + 1);
        base.resize(plus);
        if (base.empty() || adapter.empty() || adapter.find('+') != std::string::npos)
          fail(n.line, fmt::format("{} {}: expected MODEL+ADAPTER", what, m.model));
      }
    }
    m.stage = find_stage(base, n.line);
    if (!m.stage && !is_in_memory(base)) m.folder = resolve_path(base, n.line, what, true);
    if (!adapter.empty()) m.adapter = resolve_path(adapter, n.line, "adapter", true);
    return m;
  }

  bool is_in_memory(const std::string& name) const;
  // What the document of that name merges, if there is one.
  std::shared_ptr<const Recipe> find_stage(const std::string& name, int line) const;

  // Exactly one of models, slices and modules.
  void inputs(const YamlNode& root, Recipe& r) const {
    const YamlNode* found = nullptr;
    for (const std::string_view key : {"models", "slices", "modules"}) {
      const YamlNode* n = given(root, key);
      if (n && found)
        fail(n->line, "a recipe has one of models, slices and modules, found several");
      if (n) found = n;
    }
    if (!found) fail(root.line, "'models' is missing (or slices, or modules)");
    if (found == given(root, "models")) models(*found, r);
    if (found == given(root, "slices")) slices(*found, r);
    if (found == given(root, "modules")) modules(*found, root, r);
    add_base(root, r);
  }

  void models(const YamlNode& list, Recipe& r) const {
    if (list.kind != Kind::kList || list.items.empty())
      fail(list.line, "'models' must be a list of models");
    static constexpr std::array<std::string_view, 2> kKeys = {"model", "parameters"};
    for (const YamlNode& item : list.items) {
      check_keys(item, kKeys, "a model");
      const size_t before = r.models.size();
      RecipeModel& m = r.models[add_model(need(item, "model"), "model", r)];
      if (r.models.size() == before)
        fail(item.line, fmt::format("model {} is listed twice", m.model));
      m.line = item.line;
      if (const YamlNode* p = given(item, "parameters")) m.parameters = parameters_of(*p, true);
    }
  }

  // The model's place in r.models, where it is put if it is not there.
  size_t add_model(const YamlNode& n, std::string_view what, Recipe& r) const {
    return add_model(model_of(n, what), r);
  }
  static size_t add_model(RecipeModel m, Recipe& r) {
    for (size_t i = 0; i < r.models.size(); ++i) {
      if (is_same_model(r.models[i], m)) return i;
    }
    r.models.push_back(std::move(m));
    return r.models.size() - 1;
  }

  // modules: NAME: {models or slices, parameters}. One module is the whole model.
  void modules(const YamlNode& map, const YamlNode& root, Recipe& r) const {
    if (map.kind != Kind::kMap || map.entries.empty())
      fail(map.line, "'modules' must be a map of modules");
    if (map.entries.size() == 1) return module(map.entries[0].second, r);
    for (const auto& [name, node] : map.entries) {
      auto part = std::make_shared<Recipe>(r);
      part->models.clear();
      part->modules.clear();
      part->line = name.line;
      module(node, *part);
      add_base(root, *part);
      for (RecipeModel m : part->models) {
        m.parameters.clear();
        add_model(std::move(m), r);
      }
      r.modules.push_back({name.scalar, std::move(part)});
    }
  }

  void module(const YamlNode& module, Recipe& r) const {
    static constexpr std::array<std::string_view, 3> kKeys = {"models", "parameters", "slices"};
    check_keys(module, kKeys, "a module");
    if (const YamlNode* p = given(module, "parameters"))
      r.module_parameters = parameters_of(*p, false);
    const YamlNode *m = given(module, "models"), *s = given(module, "slices");
    if (!m == !s) fail(module.line, "a module has either models or slices");
    m ? models(*m, r) : slices(*s, r);
  }

  void slices(const YamlNode& list, Recipe& r) const {
    if (list.kind != Kind::kList || list.items.empty())
      fail(list.line, "'slices' must be a list of slices");
    static constexpr std::array<std::string_view, 4> kKeys = {"sources", "parameters", "base_model",
                                                              "residual_weight"};
    for (const YamlNode& item : list.items) {
      check_keys(item, kKeys, "a slice");
      OutputSlice slice;
      slice.line = item.line;
      if (const YamlNode* p = given(item, "parameters"))
        slice.parameters = parameters_of(*p, false);
      const YamlNode& sources = need(item, "sources");
      if (sources.kind != Kind::kList || sources.items.empty())
        fail(sources.line, "'sources' must be a list of models with layer_range");
      for (const YamlNode& n : sources.items) add_source(n, slice, r);
      if (const YamlNode* n = given(item, "base_model"))
        slice.base_index = add_model(*n, "base_model", r);
      r.slices.push_back(std::move(slice));
    }
  }

  void add_source(const YamlNode& n, OutputSlice& slice, Recipe& r) const {
    static constexpr std::array<std::string_view, 3> kKeys = {"model", "layer_range", "parameters"};
    check_keys(n, kKeys, "a source");
    SliceSource source;
    source.model = add_model(need(n, "model"), "model", r);
    const YamlNode& range = need(n, "layer_range");
    if (range.kind != Kind::kList || range.items.size() != 2)
      fail(range.line, "layer_range must be [first, end)");
    source.begin = static_cast<int64_t>(count_of(range.items[0], "layer_range"));
    source.end = static_cast<int64_t>(count_of(range.items[1], "layer_range"));
    if (source.begin >= source.end)
      fail(range.line,
           fmt::format("layer_range [{}, {}) holds no layer", source.begin, source.end));
    if (const YamlNode* p = given(n, "parameters")) source.parameters = parameters_of(*p, true);
    for (const SliceSource& other : slice.sources) {
      if (other.model == source.model) fail(n.line, "a slice has the same model twice");
      if (other.end - other.begin != source.end - source.begin)
        fail(range.line, fmt::format("layer_range has {} layers, the slice's first source {}",
                                     source.end - source.begin, other.end - other.begin));
    }
    slice.sources.push_back(std::move(source));
  }

  void add_base(const YamlNode& root, Recipe& r) const {
    const YamlNode* base = given(root, "base_model");
    if (base == nullptr) return;
    RecipeModel m = model_of(*base, "base_model");
    m.listed = false;
    r.base_model = m.model;
    r.base_index = add_model(std::move(m), r);
  }

  // ---- lewis: ----

  double share_of(const YamlNode& n, std::string_view what) const {
    const double value = number_of(n, what);
    if (!(value >= 0 && value <= 1))
      fail(n.line, fmt::format("{} {} is outside [0, 1]", what, n.scalar));
    return value;
  }

  CalibrationEntry calibration_of(const YamlNode& n, const Recipe& r) const {
    static constexpr std::array<std::string_view, 9> kKeys = {
        "model",        "statistics", "data", "format",    "prompt_field",
        "answer_field", "samples",    "seed", "max_tokens"};
    check_keys(n, kKeys, "lewis.calibration");
    CalibrationEntry e;
    e.line = n.line;
    const RecipeModel model = model_of(need(n, "model"), "lewis.calibration model");
    e.model = model.model;
    const auto same = [&](const RecipeModel& m) { return is_same_model(m, model); };
    const auto it = std::find_if(r.models.begin(), r.models.end(), same);
    if (it == r.models.end())
      fail(n.line,
           fmt::format("lewis.calibration model {} is none of the recipe's models", e.model));
    e.index = static_cast<size_t>(it - r.models.begin());
    if (r.base_index == e.index)
      fail(n.line,
           "lewis.calibration is given for the fine-tuned models; the base is run on each text as "
           "well");
    given(n, "statistics") ? statistics_of(n, e) : data_of(n, e);
    return e;
  }

  // statistics: {base: FILE, model: FILE}
  void statistics_of(const YamlNode& entry, CalibrationEntry& e) const {
    for (const auto& [key, _] : entry.entries) {
      if (key.scalar != "model" && key.scalar != "statistics") {
        fail(key.line,
             fmt::format("'{}' has no meaning beside statistics: nothing is run", key.scalar));
      }
    }
    const YamlNode& map = need(entry, "statistics");
    static constexpr std::array<std::string_view, 2> kKeys = {"base", "model"};
    check_keys(map, kKeys, "statistics");
    const auto file = [&](std::string_view key) {
      const YamlNode& n = need(map, key);
      return resolve_path(text_of(n, key), n.line, fmt::format("statistics.{}", key), false);
    };
    e.base_statistics = file("base");
    e.model_statistics = file("model");
  }

  void data_of(const YamlNode& n, CalibrationEntry& e) const {
    const YamlNode* data = given(n, "data");
    if (!data) fail(n.line, "'data' is missing (or statistics)");
    e.data = resolve_path(text_of(*data, "data"), data->line, "data", false);
    if (const YamlNode* v = given(n, "format")) e.format = text_of(*v, "format");
    if (const YamlNode* v = given(n, "prompt_field")) e.prompt_field = text_of(*v, "prompt_field");
    if (const YamlNode* v = given(n, "answer_field")) e.answer_field = text_of(*v, "answer_field");
    if (const YamlNode* v = given(n, "samples")) e.samples = count_of(*v, "samples");
    if (const YamlNode* v = given(n, "seed")) e.seed = count_of(*v, "seed");
    if (const YamlNode* v = given(n, "max_tokens")) e.max_tokens = count_of(*v, "max_tokens");
    if (e.max_tokens == 0) fail(n.line, "max_tokens must be at least 1");
  }

  LewisSection lewis_of(const YamlNode& n, const Recipe& r) const {
    static constexpr std::array<std::string_view, 16> kKeys = {
        "calibration", "protocol", "importance", "allocation",      "gamma", "epsilon",
        "budget",      "kappa",    "scope",      "uncovered",       "trim",  "coefficient",
        "aim",         "refine",   "seed",       "skip_first_token"};
    check_keys(n, kKeys, "lewis");
    LewisSection s;
    if (const YamlNode* v = given(n, "calibration")) {
      if (v->kind != Kind::kList) fail(v->line, "lewis.calibration must be a list");
      for (const YamlNode& item : v->items) {
        s.calibration.push_back(calibration_of(item, r));
        const auto same = [&](const CalibrationEntry& e) {
          return e.index == s.calibration.back().index;
        };
        if (std::count_if(s.calibration.begin(), s.calibration.end(), same) > 1) {
          fail(item.line,
               fmt::format("model {} has two calibration entries", s.calibration.back().model));
        }
      }
      if (!s.calibration.empty() && !r.base_index)
        fail(v->line, "lewis.calibration needs base_model: importance is the distance from it");
    }
    if (const YamlNode* v = given(n, "protocol")) s.protocol = text_of(*v, "protocol");
    static constexpr std::array<std::string_view, 2> kProtocols = {"clean", "reference"};
    if (std::find(kProtocols.begin(), kProtocols.end(), s.protocol) == kProtocols.end()) {
      fail(n.find("protocol")->line, fmt::format("protocol '{}' is not known; did you mean '{}'?",
                                                 s.protocol, nearest_name(s.protocol, kProtocols)));
    }
    if (const YamlNode* v = given(n, "importance")) s.importance = text_of(*v, "importance");
    if (const YamlNode* v = given(n, "allocation")) s.allocation = text_of(*v, "allocation");
    if (const YamlNode* v = given(n, "gamma")) s.gamma = share_of(*v, "gamma");
    if (const YamlNode* v = given(n, "epsilon")) s.epsilon = share_of(*v, "epsilon");
    if (s.gamma > s.epsilon) {
      const YamlNode* v = n.find("gamma") ? n.find("gamma") : n.find("epsilon");
      fail(v->line,
           fmt::format(
               "gamma {} is above epsilon {}: gamma is the smallest density, epsilon the largest",
               s.gamma, s.epsilon));
    }
    if (const YamlNode* v = given(n, "uncovered")) {
      static constexpr std::array<std::string_view, 1> kDensity = {"density"};
      if (v->kind == Kind::kMap) {
        check_keys(*v, kDensity, "lewis.uncovered");
        v = &need(*v, "density");
      }
      s.uncovered = share_of(*v, "uncovered");
    }
    if (const YamlNode* v = given(n, "skip_first_token"))
      s.skip_first_token = number_of(*v, "skip_first_token") != 0;
    if (s.skip_first_token && s.protocol == "reference")
      fail(n.find("skip_first_token")->line, "skip_first_token belongs to the protocol clean");
    for (const CalibrationEntry& e : s.calibration) {
      if (s.skip_first_token && e.has_statistics())
        fail(e.line, "skip_first_token changes how a model is run, statistics are there already");
    }
    if (const YamlNode* v = given(n, "seed")) s.seed = count_of(*v, "seed");
    extras_of(n, s);
    if (const YamlNode* v = given(n, "refine")) s.refine = refine_of(*v, s, r);
    return s;
  }

  // What is off by default.
  void extras_of(const YamlNode& n, LewisSection& s) const {
    if (const YamlNode* v = given(n, "budget")) s.budget = share_of(*v, "budget");
    if (const YamlNode* v = given(n, "kappa")) s.kappa = number_of(*v, "kappa");
    if (const YamlNode* v = given(n, "scope")) {
      if (v->kind != Kind::kList || v->items.empty())
        fail(v->line, "scope must be a list of parts of names, as [mlp, self_attn.q_proj]");
      for (const YamlNode& item : v->items) s.scope.push_back(text_of(item, "scope"));
    }
    if (const YamlNode* v = given(n, "trim")) {
      static constexpr std::array<std::string_view, 2> kTrims = {"magnitude", "activation"};
      s.trim = text_of(*v, "trim");
      if (std::ranges::find(kTrims, s.trim) == kTrims.end())
        fail(v->line, fmt::format("trim '{}' is not known; did you mean '{}'?", s.trim,
                                  nearest_name(s.trim, kTrims)));
    }
    if (const YamlNode* v = given(n, "coefficient")) s.coefficient = coefficient_of(*v);
    if (const YamlNode* v = given(n, "aim")) {
      static constexpr std::array<std::string_view, 1> kOmega = {"omega"};
      check_keys(*v, kOmega, "lewis.aim");
      s.aim = share_of(need(*v, "omega"), "omega");
    }
  }

  // "lines", or {method: lines, first: 0.5, last: 1}.
  CoefficientSettings coefficient_of(const YamlNode& n) const {
    CoefficientSettings c;
    if (n.kind != Kind::kMap) {
      c.method = text_of(n, "coefficient");
      return c;
    }
    static constexpr std::array<std::string_view, 3> kKeys = {"method", "first", "last"};
    check_keys(n, kKeys, "lewis.coefficient");
    c.method = text_of(need(n, "method"), "method");
    for (const auto& [key, member] :
         {std::pair("first", &CoefficientSettings::first), {"last", &CoefficientSettings::last}}) {
      const YamlNode* v = given(n, key);
      if (v && c.method != "lines")
        fail(v->line, fmt::format("'{}' belongs to the coefficient lines", key));
      if (v) c.*member = number_of(*v, key);
    }
    return c;
  }

  RefineSettings refine_of(const YamlNode& n, const LewisSection& lewis, const Recipe& r) const {
    static constexpr std::array<std::string_view, 10> kKeys = {
        "method",          "prior",    "samples", "ridge", "alpha",
        "question_weight", "held_out", "biases",  "norms", "head"};
    static constexpr std::array<std::string_view, 3> kMethods = {"regression", "regmean",
                                                                 "regmean_pp"};
    static constexpr std::array<std::string_view, 2> kPriors = {"guided", "plain"};
    check_keys(n, kKeys, "lewis.refine");
    RefineSettings s;
    const auto choose = [&](std::string_view key, Names names, std::string& value) {
      const YamlNode* v = given(n, key);
      if (!v) return;
      value = text_of(*v, key);
      if (std::find(names.begin(), names.end(), value) == names.end()) {
        fail(v->line, fmt::format("lewis.refine.{} '{}' is not known; did you mean '{}'?", key,
                                  value, nearest_name(value, names)));
      }
    };
    choose("method", kMethods, s.method);
    choose("prior", kPriors, s.prior);
    if (s.method == "regmean") s.ridge = 0;
    if (const YamlNode* v = given(n, "samples")) s.samples = count_of(*v, "samples");
    if (const YamlNode* v = given(n, "ridge")) s.ridge = number_of(*v, "ridge");
    if (s.ridge < 0) fail(n.find("ridge")->line, fmt::format("ridge {} is below 0", s.ridge));
    if (const YamlNode* v = given(n, "alpha")) {
      if (s.method != "regmean") fail(v->line, "alpha belongs to the method regmean");
      s.alpha = share_of(*v, "alpha");
    }
    if (const YamlNode* v = given(n, "question_weight"))
      s.question_weight = share_of(*v, "question_weight");
    if (const YamlNode* v = given(n, "held_out")) s.held_out = share_of(*v, "held_out");
    if (s.held_out == 1) fail(n.find("held_out")->line, "held_out 1 leaves nothing to fit to");
    for (const auto& [key, value] :
         {std::pair("biases", &s.biases), {"norms", &s.norms}, {"head", &s.head}}) {
      if (const YamlNode* v = given(n, key)) *value = number_of(*v, key) != 0;
    }
    check_refine(n, lewis, r);
    return s;
  }

  void check_refine(const YamlNode& n, const LewisSection& lewis, const Recipe& r) const {
    if (!r.slices.empty() || !r.modules.empty())
      fail(n.line, "lewis.refine needs the form models: experts and merge of one shape");
    if (lewis.calibration.empty())
      fail(n.line,
           "lewis.refine needs lewis.calibration: each expert with text that shows its skill");
    for (const CalibrationEntry& e : lewis.calibration) {
      if (e.has_statistics())
        fail(e.line, "lewis.refine needs text (data): statistics do not tell what a layer returns");
    }
  }

  fs::path file_;
  std::string where_;
  Documents& documents_;
};

// The documents of a recipe file: each is parsed when the first other names it.
class Documents {
 public:
  // `names`: of models in memory.
  Documents(const fs::path& file, std::vector<YamlNode> roots, std::vector<std::string> names)
      : in_memory(std::move(names)), file_(file) {
    for (YamlNode& root : roots) documents_.push_back({std::move(root), "", false, false, {}});
    for (Document& d : documents_) {
      const YamlNode* name = d.root.find("name");
      if (!name || name->is_null()) continue;
      for (const Document& other : documents_) {
        if (other.name == name->scalar)
          fail(name->line, fmt::format("two documents have the name {}", name->scalar));
      }
      d.name = name->scalar;
    }
  }

  const std::vector<std::string> in_memory;  // names of models, see parse_recipe

  std::shared_ptr<const Recipe> find(const std::string& name, int line) {
    for (Document& d : documents_) {
      if (d.name != name || name.empty()) continue;
      if (d.open) fail(line, fmt::format("document {} is made from itself", name));
      d.used = true;
      if (!d.recipe) d.recipe = parse(d);
      if (d.recipe->lewis && d.recipe->lewis->refine)
        fail(line,
             fmt::format("document {} has lewis.refine: only the last one can be refined", name));
      return d.recipe;
    }
    return nullptr;
  }

  // The one whose result is the model.
  Recipe last() {
    for (Document& d : documents_) {
      if (!d.recipe) d.recipe = parse(d);
    }
    const Document* found = nullptr;
    for (const Document& d : documents_) {
      if (d.used) continue;
      if (found) {
        fail(d.root.line, fmt::format("no other document uses the result of this one, nor that of "
                                      "line {}: which is the model?",
                                      found->root.line));
      }
      found = &d;
    }
    return *found->recipe;  // there is one: no document is made from itself
  }

 private:
  struct Document {
    YamlNode root;
    std::string name;
    bool open, used;
    std::shared_ptr<const Recipe> recipe;
  };

  std::shared_ptr<const Recipe> parse(Document& d) {
    d.open = true;
    auto recipe = std::make_shared<const Recipe>(Parser(file_, *this).recipe(d.root));
    d.open = false;
    return recipe;
  }

  [[noreturn]] void fail(int line, std::string_view message) const {
    throw usage_error("{}:{}: {}", Parser::where_of(file_), line, message);
  }

  fs::path file_;
  std::vector<Document> documents_;
};

std::shared_ptr<const Recipe> Parser::find_stage(const std::string& name, int line) const {
  return documents_.find(name, line);
}

bool Parser::is_in_memory(const std::string& name) const {
  return std::ranges::find(documents_.in_memory, name) != documents_.in_memory.end();
}

}  // namespace

bool is_same_model(const RecipeModel& a, const RecipeModel& b) {
  const auto same_folder = [](const fs::path& x, const fs::path& y) {
    return x.empty() || y.empty() ? x.empty() == y.empty() : fs::equivalent(x, y);
  };
  const bool in_memory = !a.stage && a.folder.empty();
  return a.stage == b.stage && same_folder(a.folder, b.folder) &&
         same_folder(a.adapter, b.adapter) && (!in_memory || a.model == b.model);
}

std::vector<fs::path> source_folders(const Recipe& recipe) {
  std::vector<fs::path> folders;
  for (const RecipeModel& m : recipe.models) {
    if (!m.folder.empty()) folders.push_back(m.folder);
    if (!m.adapter.empty()) folders.push_back(m.adapter);
    if (m.stage) std::ranges::copy(source_folders(*m.stage), std::back_inserter(folders));
  }
  return folders;
}

Recipe recipe_of(std::vector<YamlNode> documents, const fs::path& file,
                 std::vector<std::string> in_memory) {
  return Documents(file, std::move(documents), std::move(in_memory)).last();
}

namespace {

// Only `lewis tune` takes ranges (recipe/tunable.h).
void refuse_ranges(const YamlNode& node, const std::string& key, const fs::path& file) {
  if (is_range(node)) {
    const std::string where = Parser::where_of(file);
    throw usage_error("{}:{}: {} is a range to search: `lewis tune {} -o OUT.yml` finds its value",
                      where, node.line, key, where);
  }
  for (const YamlNode& item : node.items) refuse_ranges(item, key, file);
  for (const auto& [name, value] : node.entries) refuse_ranges(value, name.scalar, file);
}

}  // namespace

Recipe parse_recipe(std::string_view text, const fs::path& file,
                    const std::vector<std::string>& in_memory) {
  std::vector<YamlNode> documents = parse_yaml(text, Parser::where_of(file));
  for (const YamlNode& root : documents) refuse_ranges(root, "", file);
  Recipe recipe = recipe_of(std::move(documents), file, in_memory);
  recipe.text = text;
  return recipe;
}

Recipe read_recipe(const fs::path& file) { return parse_recipe(read_text_file(file), file); }

}  // namespace lewis
