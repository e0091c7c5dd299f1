#include "calibrate/imatrix.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "io/expert_tensors.h"
#include "io/gguf.h"
#include "model/mixer.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

// The linear layers of MLPs and shared experts; mixers have theirs in their own files.
constexpr std::array<GgmlName, 32> kMlpNames = {{
    {"mlp.gate_proj", "ffn_gate", ""},
    {"mlp.up_proj", "ffn_up", ""},
    {"mlp.down_proj", "ffn_down", ""},
    {"mlp.gate_up_proj", "ffn_up", ""},  // Phi-3, GLM-4: both halves
    {"mlp.c_fc", "ffn_up", ""},          // StarCoder2
    {"mlp.c_proj", "ffn_down", ""},
    {"mlp.shared_expert.gate_proj", "ffn_gate_shexp", ""},
    {"mlp.shared_expert.up_proj", "ffn_up_shexp", ""},
    {"mlp.shared_expert.down_proj", "ffn_down_shexp", ""},
    {"mlp.shared_expert_gate", "ffn_gate_inp_shexp", ""},
    {"mlp.shared_experts.gate_proj", "ffn_gate_shexp", ""},  // DeepSeek's and GLM's spelling
    {"mlp.shared_experts.up_proj", "ffn_up_shexp", ""},
    {"mlp.shared_experts.down_proj", "ffn_down_shexp", ""},
    {"feed_forward.w1", "ffn_gate", ""},  // LFM 2
    {"feed_forward.w3", "ffn_up", ""},
    {"feed_forward.w2", "ffn_down", ""},
    {"feed_forward.gate_proj", "ffn_gate", ""},  // Falcon-H1, Llama 4
    {"feed_forward.up_proj", "ffn_up", ""},
    {"feed_forward.down_proj", "ffn_down", ""},
    {"feed_forward.shared_expert.gate_proj", "ffn_gate_shexp", ""},
    {"feed_forward.shared_expert.up_proj", "ffn_up_shexp", ""},
    {"feed_forward.shared_expert.down_proj", "ffn_down_shexp", ""},
    {"mixer.up_proj", "ffn_up", ""},  // Nemotron-H
    {"mixer.down_proj", "ffn_down", ""},
    {"mixer.shared_experts.up_proj", "ffn_up_shexp", ""},
    {"mixer.shared_experts.down_proj", "ffn_down_shexp", ""},
    {"mixer.fc1_latent_proj", "ffn_latent_down", ""},
    {"mixer.fc2_latent_proj", "ffn_latent_up", ""},
    {"shared_mlp.input_linear", "ffn_up_shexp", ""},  // Granite 4: gate and up
    {"shared_mlp.output_linear", "ffn_down_shexp", ""},
    {"per_layer_input_gate", "inp_gate", ""},  // Gemma 4
    {"per_layer_projection", "proj", ""},
}};

}  // namespace

const GgmlName* ggml_name_of(std::string_view module) {
  const auto find = [&](std::span<const GgmlName> names) -> const GgmlName* {
    const auto row = std::ranges::find(names, module, &GgmlName::module);
    return row == names.end() ? nullptr : &*row;
  };
  if (const GgmlName* name = find(kMlpNames)) return name;
  for (const MixerRow* mixer : mixer_rows()) {
    if (const GgmlName* name = find(mixer->ggml_names)) return name;
  }
  return nullptr;
}

namespace {

constexpr std::array<std::string_view, 5> kExperts = {
    "mlp.experts", "block_sparse_moe.experts", "feed_forward.experts", "mixer.experts", "experts"};
// All that read the hidden states have the same entry.
constexpr std::array<std::string_view, 3> kExpertIn = {"ffn_gate_exps", "ffn_up_exps",
                                                       "ffn_gate_up_exps"};
constexpr std::string_view kExpertMid = "ffn_down_exps";
// llama.cpp measures them, lewis keeps these weights as they are.
constexpr std::string_view kRouter = ".ffn_gate_inp.weight";
constexpr std::array<std::string_view, 2> kOutside = {"output.weight", "token_embd.weight"};

constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts", kPlainSums = ".in_sum";
constexpr std::string_view kType = "general.type", kOrigin = "lewis.origin.";

std::string ggml_name(int64_t layer, std::string_view name) {
  return fmt::format("blk.{}.{}.weight", layer, name);
}

// "model.layers.3.self_attn.q_proj" -> 3, "self_attn.q_proj".
struct Place {
  int64_t layer = 0;
  std::string_view rest;
};
std::optional<Place> place_of(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  Place place;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), place.layer);
  if (error != std::errc() || end == name.data() + name.size() || *end != '.') return std::nullopt;
  place.rest = name.substr(static_cast<size_t>(end - name.data()) + 1);
  return place;
}

// ---- writing ----

class Writer {
 public:
  explicit Writer(const Statistics& statistics) : s_(statistics) {}

  void write(const fs::path& file) {
    for (const auto& [module, sums] : s_.sum_squares) {
      const Place place = place_in(module);
      const GgmlName* row = ggml_name_of(place.rest);
      if (!row) throw failed_error("{} has no name in ggml", module);
      const std::array count = {static_cast<double>(s_.tokens)};
      add(ggml_name(place.layer, row->ggml), sums, count);
    }
    for (const auto& [module, e] : s_.experts) {
      const int64_t layer = place_in(module).layer;
      const std::vector<double> counts(e.tokens.begin(), e.tokens.end());
      for (const std::string_view name : {kExpertIn[0], kExpertIn[1]})
        add(ggml_name(layer, name), e.in, counts);
      add(ggml_name(layer, kExpertMid), e.mid, counts);
    }
    std::vector<std::span<const std::byte>> data;
    for (const auto& values : values_) data.push_back(std::as_bytes(std::span(values)));
    write_gguf(file, metadata(), tensors_, data);
  }

 private:
  static Place place_in(const std::string& module) {
    const size_t at = module.find("layers.");
    const auto place = place_of(module, module.substr(0, at == std::string::npos ? 0 : at + 7));
    if (!place) throw failed_error("{} is in no layer: it has no name in ggml", module);
    return *place;
  }

  void add(const std::string& name, std::span<const double> sums, std::span<const double> counts) {
    const auto n = static_cast<int64_t>(counts.size());
    const auto width = static_cast<int64_t>(sums.size()) / n;
    add_tensor(name + std::string(kSums), n == 1 ? Shape{width} : Shape{n, width}, sums);
    add_tensor(name + std::string(kCounts), n == 1 ? Shape{1} : Shape{n, 1}, counts);
  }

  void add_tensor(std::string name, Shape shape, std::span<const double> values) {
    auto& rounded = values_.emplace_back();
    for (const double v : values) {
      if (!(v <= std::numeric_limits<float>::max()))
        throw failed_error("{}: {} is too large for float32", name, v);
      rounded.push_back(static_cast<float>(v));
    }
    tensors_.push_back({std::move(name), DType::kF32, std::move(shape)});
  }

  GgufMetadata metadata() const {
    const uint64_t chunks = std::max<uint64_t>(1, s_.sequences);
    GgufMetadata metadata = {
        {std::string(kType), "imatrix"},
        {"imatrix.chunk_count", static_cast<uint32_t>(chunks)},
        {"imatrix.chunk_size", static_cast<uint32_t>((s_.tokens + chunks - 1) / chunks)},
        {"lewis.sequences", s_.sequences}};
    GgufArray datasets;
    for (const auto& [key, value] : s_.origin) {
      metadata[std::string(kOrigin) + key] = value;
      if (key == "data") datasets.texts.push_back(value);
    }
    metadata["imatrix.datasets"] = std::move(datasets);
    if (!s_.fused.empty()) metadata["lewis.fused"] = fused_to_text(s_.fused);
    return metadata;
  }

  const Statistics& s_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::vector<float>> values_;
};

// ---- reading ----

struct Entry {
  std::vector<double> sums, counts;
  int64_t width() const {
    return static_cast<int64_t>(sums.size() / std::max<size_t>(1, counts.size()));
  }
};
using Entries = std::map<std::string, Entry>;

std::vector<double> read_values(const GgufFile& file, const GgufFile::Entry& entry) {
  const TensorInfo& t = entry.info;
  if (t.dtype != DType::kF32) {
    throw input_error("{}: tensor {} is {}, expected F32", file.path().string(), t.name,
                      dtype_name(t.dtype));
  }
  std::vector<float> values(static_cast<size_t>(element_count(t.shape)));
  file.read(entry, 0, std::as_writable_bytes(std::span(values)));
  for (const float v : values) {
    if (!(v >= 0 && std::isfinite(v))) {
      throw input_error("{}: tensor {} holds {}, expected sums of squares or counts",
                        file.path().string(), t.name, v);
    }
  }
  return {values.begin(), values.end()};
}

Entries read_entries(const GgufFile& file) {
  Entries entries;
  for (const GgufFile::Entry& tensor : file.entries()) {
    const std::string& name = tensor.info.name;
    if (name.ends_with(kPlainSums)) continue;  // of later versions of llama.cpp: not needed
    const bool sums = name.ends_with(kSums);
    if (!sums && !name.ends_with(kCounts)) {
      throw input_error("{}: tensor {} is not known, expected X{} or X{}", file.path().string(),
                        name, kSums, kCounts);
    }
    Entry& entry = entries[name.substr(0, name.size() - (sums ? kSums : kCounts).size())];
    (sums ? entry.sums : entry.counts) = read_values(file, tensor);
  }
  for (const auto& [name, entry] : entries) {
    if (entry.sums.empty() || entry.counts.empty() ||
        entry.sums.size() % entry.counts.size() != 0) {
      throw input_error("{}: {}{} and {} do not fit together ({} and {} values)",
                        file.path().string(), name, kSums, kCounts, entry.sums.size(),
                        entry.counts.size());
    }
  }
  return entries;
}

// The routed experts of one block, by their tensors.
struct ExpertShapes {
  int64_t count = 0, in = 0, mid = 0;
};

class Reader {
 public:
  Reader(const GgufFile& file, const TensorSource& model)
      : file_(file), model_(model), entries_(read_entries(file)) {}

  Statistics run() {
    const std::string prefix = layers_prefix();
    for (const TensorInfo& t : model_.tensors()) {
      if (const auto place = place_of(t.name, prefix)) add_tensor(t, *place);
    }
    for (const auto& [module, shapes] : experts_)
      add_experts(module, place_of(module, prefix)->layer, shapes);
    check_all_used();
    scale_to_most_tokens();
    read_metadata();
    return std::move(s_);
  }

 private:
  std::string where() const { return file_.path().string(); }

  // What stands before the number of a layer: by where the embeddings are.
  std::string layers_prefix() const {
    const std::string prefix = locate_tensors(ModelSpec{}, model_).prefix + "layers.";
    const bool found = std::ranges::any_of(
        model_.tensors(), [&](const TensorInfo& t) { return t.name.starts_with(prefix); });
    if (found) return prefix;
    ModelSpec other;  // Nemotron-H
    other.prefix = "backbone.";
    other.embeddings = "embeddings";
    return locate_tensors(other, model_).prefix + "layers.";
  }

  void add_tensor(const TensorInfo& t, const Place& place) {
    for (const std::string_view experts : kExperts) {
      if (place.rest.starts_with(experts) && place.rest.size() > experts.size() + 1 &&
          place.rest[experts.size()] == '.') {
        const size_t before = t.name.size() - place.rest.size();
        note_expert(t, experts_[t.name.substr(0, before + experts.size())],
                    place.rest.substr(experts.size() + 1));
        return;
      }
    }
    constexpr std::string_view kWeight = ".weight";
    if (!place.rest.ends_with(kWeight) || t.shape.size() < 2) return;
    const std::string_view rest = place.rest.substr(0, place.rest.size() - kWeight.size());
    const GgmlName* row = ggml_name_of(rest);
    if (!row) return;
    const Entry* entry = take(place.layer, std::array{row->ggml, row->fused}, t.name);
    if (!entry) return;
    check_size(*entry, ggml_name(place.layer, row->ggml), 1, t.shape.back(), t.name);
    const std::string module = t.name.substr(0, t.name.size() - kWeight.size());
    s_.sum_squares[module] = entry->sums;
    counts_[module] = entry->counts[0];
  }

  // `rest`: "5.gate_proj.weight" of one expert, "gate_up_proj" of all.
  static void note_expert(const TensorInfo& t, ExpertShapes& shapes, std::string_view rest) {
    if (t.shape.size() < 2) return;
    int64_t index = 0;
    std::from_chars(rest.data(), rest.data() + rest.size(), index);
    shapes.count = std::max(shapes.count, t.shape.size() == 3 ? t.shape[0] : index + 1);
    const bool down = rest.find("down_proj") != rest.npos || rest.find("w2") != rest.npos;
    (down ? shapes.mid : shapes.in) = t.shape.back();
  }

  void add_experts(const std::string& module, int64_t layer, const ExpertShapes& shapes) {
    const Entry* in = take(layer, kExpertIn, module);
    const Entry* mid = take(layer, std::array{kExpertMid}, module);
    if (!in || !mid) return;
    check_size(*in, ggml_name(layer, kExpertIn[0]), shapes.count, shapes.in, module);
    check_size(*mid, ggml_name(layer, kExpertMid), shapes.count, shapes.mid, module);
    if (in->counts != mid->counts) {
      throw input_error("{}: {} and {} of layer {} count different tokens", where(), kExpertIn[0],
                        kExpertMid, layer);
    }
    ExpertStatistics& e = s_.experts[module];
    for (const double n : in->counts) e.tokens.push_back(std::llround(std::min(n, 1e15)));
    e.in = in->sums;
    e.mid = mid->sums;
  }

  // The first entry of these names; all of them count as used. Without one the tensor is noted.
  const Entry* take(int64_t layer, std::span<const std::string_view> names,
                    const std::string& tensor) {
    const Entry* found = nullptr;
    for (const std::string_view name : names) {
      const auto it = entries_.find(ggml_name(layer, name));
      if (it == entries_.end()) continue;
      used_.insert(it->first);
      if (!found) found = &it->second;
    }
    if (!found) missing_.push_back(fmt::format("{} ({})", tensor, ggml_name(layer, names[0])));
    return found;
  }

  void check_size(const Entry& entry, const std::string& name, int64_t count, int64_t width,
                  const std::string& tensor) const {
    if (static_cast<int64_t>(entry.counts.size()) == count && entry.width() == width) return;
    throw input_error("{}: {} has {} x {} sums, tensor {} of {} asks for {} x {}", where(), name,
                      entry.counts.size(), entry.width(), tensor, model_.label(), count, width);
  }

  void check_all_used() const {
    if (!missing_.empty()) {
      throw input_error("{}: {} weight(s) of {} have no entry, the first is {}", where(),
                        missing_.size(), model_.label(), missing_[0]);
    }
    for (const auto& [name, _] : entries_) {
      if (used_.contains(name) || name.ends_with(kRouter) || std::ranges::count(kOutside, name))
        continue;
      throw input_error("{}: entry {} belongs to no weight of {} that lewis knows", where(), name,
                        model_.label());
    }
  }

  void scale_to_most_tokens() {
    double most = 0;
    for (const auto& [_, count] : counts_) most = std::max(most, count);
    if (!(most >= 1 && most < 1e15)) {
      throw input_error("{}: the weights of {} saw {} tokens, expected at least 1", where(),
                        model_.label(), most);
    }
    for (auto& [module, sums] : s_.sum_squares) {
      const double count = counts_.at(module);
      if (count < 1) throw input_error("{}: the weight of {} saw no token", where(), module);
      for (double& sum : sums) sum *= most / count;
    }
    s_.tokens = static_cast<uint64_t>(std::llround(most));
  }

  void read_metadata() {
    for (const auto& [key, value] : file_.metadata()) {
      const auto* text = std::get_if<std::string>(&value);
      if (key.starts_with(kOrigin) && text) s_.origin[key.substr(kOrigin.size())] = *text;
      if (key == "lewis.fused" && text) s_.fused = fused_from_text(*text, where());
      if (const auto* n = std::get_if<uint64_t>(&value); n && key == "lewis.sequences")
        s_.sequences = *n;
      if (const auto* a = std::get_if<GgufArray>(&value);
          a && key == "imatrix.datasets" && !a->texts.empty()) {
        s_.origin.try_emplace("data", a->texts[0]);
      }
    }
  }

  const GgufFile& file_;
  const TensorSource& model_;
  Entries entries_;
  std::map<std::string, ExpertShapes> experts_;  // by module
  std::map<std::string, double> counts_;         // of the modules of s_.sum_squares
  std::set<std::string> used_;
  std::vector<std::string> missing_;
  Statistics s_;
};

}  // namespace

void write_imatrix(const fs::path& file, const Statistics& statistics) {
  if (statistics.protocol != Protocol::kClean) {
    throw usage_error(
        "{}: the protocol reference cannot be written as an importance matrix: its sums are over "
        "samples and padding, not over tokens; use the protocol clean",
        file.string());
  }
  Writer(statistics).write(file);
}

Statistics read_imatrix(const fs::path& path, const TensorSource& model) {
  const GgufFile file(path);
  const auto it = file.metadata().find(std::string(kType));
  const auto* type = it == file.metadata().end() ? nullptr : std::get_if<std::string>(&it->second);
  if (!type || *type != "imatrix") {
    throw input_error("{}: {} is '{}', expected 'imatrix': not an importance matrix", path.string(),
                      kType, type ? *type : "");
  }
  const std::shared_ptr<const TensorSource> whole(&model, [](const TensorSource*) {});
  const SplitExperts split = split_experts(whole, Json::object());  // one by one, however stored
  return Reader(file, *split.source).run();
}

}  // namespace lewis
