#include "app/gguf/import.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>

#include "app/gguf/families/tensor_names.h"
#include "app/gguf/import_config.h"
#include "app/gguf/import_tokenizer.h"
#include "app/gguf/keys.h"
#include "base/config_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/gguf_source.h"
#include "io/gguf_types.h"
#include "io/layer_name.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;
using Parts = std::vector<std::shared_ptr<const GgufFile>>;

constexpr std::string_view kRopeFactors = "rope_freqs.weight";

// ---- files ----

std::string part_ending(int64_t part, int64_t parts) {
  return fmt::format("-{:05}-of-{:05}.gguf", part + 1, parts);
}

// Nothing is known of a file that is no part of several: 1 part, the first.
struct PartNumber {
  int64_t number = 0, count = 1;
};

PartNumber part_of(const GgufFile& file) {
  const auto number = [&](const std::string& key, int64_t otherwise) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end()) return otherwise;
    if (const auto* value = std::get_if<uint16_t>(&found->second)) return int64_t{*value};
    throw input_error("{}: key '{}' is not of type u16", file.path().string(), key);
  };
  return {number("split.no", 0), std::max<int64_t>(1, number("split.count", 1))};
}

void check_names(const Parts& parts) {
  std::map<std::string_view, const GgufFile*> seen;
  for (const auto& part : parts) {
    for (const auto& entry : part->entries()) {
      const auto [known, is_new] = seen.emplace(entry.info.name, part.get());
      if (!is_new) {
        throw input_error("{}: tensor {} is in {} as well", part->path().string(), entry.info.name,
                          known->second->path().filename().string());
      }
    }
  }
}

// ---- names ----

// The modules of a block that the families which are read have, beside routed experts.
constexpr std::array<std::string_view, 15> kModules = {"input_layernorm",
                                                       "post_attention_layernorm",
                                                       "self_attn.q_norm",
                                                       "self_attn.k_norm",
                                                       "self_attn.q_proj",
                                                       "self_attn.k_proj",
                                                       "self_attn.v_proj",
                                                       "self_attn.o_proj",
                                                       "mlp.gate_proj",
                                                       "mlp.up_proj",
                                                       "mlp.down_proj",
                                                       "mlp.shared_expert_gate",
                                                       "mlp.shared_expert.gate_proj",
                                                       "mlp.shared_expert.up_proj",
                                                       "mlp.shared_expert.down_proj"};

// The exporter's names, turned back: each name that a model may have is asked what the file calls
// it.
class ModelNames {
 public:
  ModelNames() = default;
  ModelNames(const ModelSpec& spec, const GgufArchitecture& family)
      : layers_(spec.prefix + "layers.") {
    const auto name_of = [&](const std::string& name) { return gguf_name_of(name, spec, family); };
    for (const std::string& name :
         {fmt::format("{}{}.weight", spec.prefix, spec.embeddings),
          fmt::format("{}{}.weight", spec.prefix, spec.final_norm), spec.head + "weight"}) {
      if (const auto stored = name_of(name)) outside_[*stored] = name;
    }
    for (const std::string_view module : kModules) {
      for (const char* ending : {".weight", ".bias"})
        add(fmt::format("{}{}", module, ending), within_, name_of);
    }
    if (!family.mixture) return;
    const ExpertsSpec& experts = spec.experts;
    add(fmt::format("{}.{}.weight", experts.module, experts.gate_name), within_, name_of);
    const auto name_of_all = [&](const std::string& name) -> std::optional<std::string> {
      const auto all = gguf_experts_of(name, spec);
      return all ? std::optional(all->first) : std::nullopt;
    };
    for (const auto& linear : {experts.names.gate, experts.names.up, experts.names.down})
      add(fmt::format("{}.experts.0.{}.weight", experts.module, linear), experts_, name_of_all);
  }

  // "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight"; of the experts' tensors the
  // name of the first.
  struct Found {
    std::string name;
    bool experts = false;
    std::optional<int64_t> layer;
  };
  std::optional<Found> find(const std::string& stored) const {
    if (const auto found = outside_.find(stored); found != outside_.end())
      return Found{found->second, false, {}};
    const LayerName place = split_layer(stored);
    if (!place.layer || place.prefix != "blk." || place.rest.empty() ||
        stored != fmt::format("blk.{}{}", *place.layer, place.rest))
      return std::nullopt;
    for (const auto* names : {&within_, &experts_}) {
      const auto found = names->find(std::string(place.rest.substr(1)));
      if (found == names->end()) continue;
      return Found{fmt::format("{}{}.{}", layers_, *place.layer, found->second), names == &experts_,
                   place.layer};
    }
    return std::nullopt;
  }

 private:
  using Names = std::map<std::string, std::string>;
  // Names of the first layer stand for those of all.
  template <typename Ask>
  void add(const std::string& within, Names& names, const Ask& ask) const {
    constexpr std::string_view kFirst = "blk.0.";
    const std::optional<std::string> stored = ask(fmt::format("{}0.{}", layers_, within));
    if (stored && stored->starts_with(kFirst)) names[stored->substr(kFirst.size())] = within;
  }

  std::string layers_;
  Names outside_, within_, experts_;
};

// "model.layers.3.mlp.experts.0.up_proj.weight" with the number of another expert.
std::string name_of_expert(const std::string& first, int64_t expert) {
  constexpr std::string_view kFirst = ".experts.0.";
  const size_t at = first.find(kFirst);
  return fmt::format("{}.experts.{}.{}", first.substr(0, at), expert,
                     first.substr(at + kFirst.size()));
}

// ---- a model ----

class Importer {
 public:
  explicit Importer(const fs::path& file)
      : parts_(open_gguf_parts(file)),
        keys_(*parts_[0]),
        family_(model_type_of(keys_)),
        layers_(keys_.count("block_count")),
        heads_(keys_.count("attention.head_count")),
        kv_heads_(keys_.count("attention.head_count_kv", heads_)),
        experts_(family_.mixture ? keys_.count("expert_count") : 0) {}

  InputModel run() {
    for_each([&](const auto& part, const auto& entry) { learn(*part, entry); });
    if (facts_.vocabulary == 0)
      throw input_error("{}: tensor token_embd.weight is missing", label());
    facts_.dtype = most_common_type();
    InputModel model;
    model.name = label();
    model.folder = parts_[0]->path();
    add_files(model);
    names_ = ModelNames(read_model_spec(*model.config, label()), family_);
    for_each([&](const auto& part, const auto& entry) { add(part, entry); });
    model.source = show_gguf(label(), shown_);
    note_blocks(model);
    model.fingerprint = [parts = parts_] {
      Sha256 hash;
      for (const auto& part : parts) hash.add(part->state());
      return hash.hex();
    };
    return model;
  }

 private:
  std::string label() const { return parts_[0]->path().string(); }

  template <typename Take>
  void for_each(const Take& take) const {
    for (const auto& part : parts_) {
      for (const auto& entry : part->entries()) take(part, entry);
    }
  }

  Error refuse(const GgufFile& file, const GgufFile::Entry& entry,
               const std::string& expected) const {
    return input_error("{}: tensor {} is {}, expected {}", file.path().string(), entry.info.name,
                       to_string(entry.info.shape), expected);
  }

  void add(const std::shared_ptr<const GgufFile>& file, const GgufFile::Entry& entry) {
    const TensorInfo& info = entry.info;
    if (info.name == kRopeFactors) return;
    const auto found = names_.find(info.name);
    if (!found) {
      throw input_error("{}: tensor {} has no place in a model of the architecture {}",
                        file->path().string(), info.name, family_.gguf);
    }
    if (found->layer && *found->layer >= layers_) {
      throw input_error("{}: tensor {} is beyond the {} blocks of the model", file->path().string(),
                        info.name, layers_);
    }
    ShownGgufTensor shown{found->name, info.shape, file, &entry};
    if (found->experts) return add_experts(shown);
    if (found->name.ends_with(".shared_expert_gate.weight") && info.shape.size() == 1)
      shown.shape.insert(shown.shape.begin(), 1);
    if (family_.neighbours) turn_back(*file, shown);
    shown_.push_back(std::move(shown));
  }

  // One tensor of all experts is shown as one of each.
  void add_experts(const ShownGgufTensor& all) {
    const Shape& shape = all.shape;
    if (shape.size() != 3 || shape[0] != experts_)
      throw refuse(*all.file, *all.entry, fmt::format("[{}, rows, columns]", experts_));
    for (int64_t e = 0; e < experts_; ++e) {
      ShownGgufTensor one = all;
      one.name = name_of_expert(all.name, e);
      one.shape = {shape[1], shape[2]};
      one.first = e * shape[1] * shape[2];
      shown_.push_back(std::move(one));
    }
  }

  void turn_back(const GgufFile& file, ShownGgufTensor& t) const {
    const bool is_q = t.name.find(".q_proj.") != t.name.npos;
    if (!is_q && t.name.find(".k_proj.") == t.name.npos) return;
    t.rope_heads = is_q ? heads_ : kv_heads_;
    if (t.shape.empty() || t.shape[0] % (2 * t.rope_heads) != 0)
      throw refuse(file, *t.entry, fmt::format("{} heads of an even size", t.rope_heads));
  }

  void take_rope_factors(const GgufFile& file, const GgufFile::Entry& entry) {
    if (entry.info.dtype != DType::kF32 || entry.bytes != byte_size(entry.info))
      throw refuse(file, entry, "numbers of the type F32");
    facts_.rope_factors.resize(static_cast<size_t>(element_count(entry.info.shape)));
    file.read(entry, 0, std::as_writable_bytes(std::span(facts_.rope_factors)));
  }

  // What config.json says of the tensors.
  void learn(const GgufFile& file, const GgufFile::Entry& entry) {
    const TensorInfo& info = entry.info;
    const std::string& name = info.name;
    if (name == kRopeFactors) return take_rope_factors(file, entry);
    parameters_[info.dtype] += element_count(info.shape);
    const int64_t rows = info.shape.size() < 2 ? 0 : info.shape[info.shape.size() - 2];
    if (name == "token_embd.weight") facts_.vocabulary = rows;
    if (name == "output.weight") facts_.tied_head = false;
    if (name.ends_with(".attn_q.bias")) facts_.attention_bias = true;
    if (name.ends_with(".ffn_up.bias")) facts_.mlp_bias = true;
    if (name.ends_with(".ffn_gate_exps.weight")) facts_.expert_width = rows;
    if (name.ends_with(".ffn_gate_shexp.weight")) facts_.shared_width = rows;
  }

  std::string most_common_type() const {
    const auto most = std::ranges::max_element(
        parameters_, [](const auto& a, const auto& b) { return a.second < b.second; });
    return most->first == DType::kF16    ? "float16"
           : most->first == DType::kBF16 ? "bfloat16"
                                         : "float32";
  }

  void add_files(InputModel& model) const {
    ImportedConfig config = import_config(keys_, family_, facts_);
    model.config_text = config_text(*config.config);
    ImportedTokenizer tokenizer = import_tokenizer(keys_, facts_.vocabulary);
    model.changed_files = std::move(tokenizer.files);
    model.changed_files["config.json"] = model.config_text;
    Json generation = Json::object(), ends = Json::array();
    for (const char* key : {"bos_token_id", "pad_token_id"}) {
      if (config.config->contains(key)) generation[key] = (*config.config)[key];
    }
    for (const char* name : {"eos", "eot", "eom"}) {
      const auto id = keys_.find_count(fmt::format("tokenizer.ggml.{}_token_id", name));
      if (id && std::ranges::find(ends, Json(*id)) == ends.end()) ends.push_back(*id);
    }
    if (!ends.empty()) generation["eos_token_id"] = ends;
    model.changed_files["generation_config.json"] = generation.dump(2) + "\n";
    model.config = std::move(config.config);
    for (auto* notes : {&config.notes, &tokenizer.notes})
      std::ranges::move(*notes, std::back_inserter(model.notes));
    model.notes.push_back(fmt::format(
        "{}: config.json (as model_type {}{}) and the tokenizer are made of its metadata; a window "
        "of attention and what normalises a text are not known",
        label(), family_.model_type,
        family_.model_type == "llama" ? ", as which a mistral is written, too" : ""));
  }

  // Keeps the types of the blocks, and says which there are.
  void note_blocks(InputModel& model) const {
    RoundedTensors rounded{model.source, {}};
    std::map<std::string, size_t> count;
    for (const ShownGgufTensor& t : shown_) {
      if (!t.entry->is_blocks()) continue;
      rounded.types[t.name] = t.entry->type;
      ++count[std::string(gguf_type(t.entry->type).name)];
    }
    if (count.empty()) return;
    std::string all;
    for (const auto& [name, tensors] : count)
      all += fmt::format("{}{} of {}", all.empty() ? "" : ", ", tensors, name);
    model.notes.push_back(
        fmt::format("{}: {} tensors are blocks ({}): they are read as the float32 numbers that "
                    "they stand for",
                    label(), rounded.types.size(), all));
    model.rounded = std::make_shared<const RoundedTensors>(std::move(rounded));
  }

  Parts parts_;
  GgufKeys keys_;
  const GgufArchitecture& family_;
  ModelNames names_;
  int64_t layers_, heads_, kv_heads_, experts_;
  GgufTensorFacts facts_;
  std::map<DType, int64_t> parameters_;
  std::vector<ShownGgufTensor> shown_;
};

}  // namespace

std::vector<std::shared_ptr<const GgufFile>> open_gguf_parts(const fs::path& file) {
  Parts parts = {std::make_shared<const GgufFile>(file)};
  const PartNumber first = part_of(*parts[0]);
  if (first.number != 0) {
    throw input_error("{}: is part {} of {}: name the first one, {}", file.string(),
                      first.number + 1, first.count, part_ending(0, first.count));
  }
  if (first.count == 1) return parts;
  const std::string name = file.filename().string(), ending = part_ending(0, first.count);
  if (!name.ends_with(ending)) {
    throw input_error("{}: is the first of {} parts, expected a name that ends in {}",
                      file.string(), first.count, ending);
  }
  const std::string stem = name.substr(0, name.size() - ending.size());
  for (int64_t i = 1; i < first.count; ++i) {
    const fs::path path = file.parent_path() / (stem + part_ending(i, first.count));
    parts.push_back(std::make_shared<const GgufFile>(path));
    const PartNumber part = part_of(*parts.back());
    if (part.number != i || part.count != first.count) {
      throw input_error("{}: says that it is part {} of {}, expected {} of {}", path.string(),
                        part.number + 1, part.count, i + 1, first.count);
    }
  }
  check_names(parts);
  return parts;
}

std::shared_ptr<const TensorSource> gguf_as_stored(const std::string& label, const Parts& parts) {
  std::vector<ShownGgufTensor> shown;
  for (const auto& part : parts) {
    for (const auto& entry : part->entries())
      shown.push_back({entry.info.name, entry.info.shape, part, &entry});
  }
  return show_gguf(label, std::move(shown));
}

InputModel open_gguf(const fs::path& file) { return Importer(file).run(); }

}  // namespace lewis
