// A small Llama with random weights in a folder of its own; settings of config.json can be given.
#pragma once

#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "model/model_spec.h"
#include "temp_dir.h"

namespace lewis {

struct RandomModel {
  explicit RandomModel(const Json& settings = Json::object()) {
    config = {{"model_type", "llama"},  {"hidden_size", 24},        {"intermediate_size", 40},
              {"num_hidden_layers", 3}, {"num_attention_heads", 4}, {"num_key_value_heads", 2},
              {"head_dim", 8},          {"vocab_size", 50},         {"max_position_embeddings", 64},
              {"rms_norm_eps", 1e-5}};
    if (settings.is_object()) config.update(settings);
    spec = read_model_spec(config, "config.json");
    make_tensors();
    write();
  }

  void write() const {
    write_text("config.json", config.dump());
    std::vector<TensorInfo> infos;
    std::vector<std::span<const std::byte>> data;
    for (const auto& [name, values] : tensors) {
      infos.push_back({name, DType::kF32, shapes.at(name)});
      data.push_back(std::as_bytes(std::span(values)));
    }
    write_safetensors(dir.path / "model.safetensors", infos, data, {});
  }

  void write_text(const std::string& name, const std::string& text) const {
    write_file_durably(dir.path / name, text);
  }

  void add(const std::string& name, Shape shape, float scale, float mean = 0) {
    std::normal_distribution<float> normal(mean, scale);
    auto& values = tensors[name];
    values.resize(static_cast<size_t>(element_count(shape)));
    for (float& v : values) v = normal(random);
    shapes[name] = std::move(shape);
  }

  TempDir dir;
  Json config;
  ModelSpec spec;
  std::map<std::string, std::vector<float>> tensors;
  std::map<std::string, Shape> shapes;
  std::mt19937 random{1};

 private:
  void make_tensors() {
    const int64_t q = spec.heads * spec.head_dim, kv = spec.kv_heads * spec.head_dim,
                  h = spec.hidden, i = spec.intermediate;
    const std::vector<Shape> linear = {{q, h}, {kv, h}, {kv, h}, {h, q}, {i, h}, {i, h}, {h, i}};
    add("model.embed_tokens.weight", {spec.vocab, h}, 1);
    add("model.norm.weight", {h}, 0.2f, 1);
    if (!spec.tied_head) add("lm_head.weight", {spec.vocab, h}, 0.3f);
    for (int64_t layer = 0; layer < spec.layers; ++layer) {
      const auto names = linear_names(spec, layer);
      const bool bias[] = {spec.qkv_bias, spec.qkv_bias, spec.qkv_bias, spec.o_bias,
                           spec.mlp_bias, spec.mlp_bias, spec.mlp_bias};
      for (size_t n = 0; n < names.size(); ++n) {
        add(names[n] + ".weight", linear[n], 0.3f);
        if (bias[n]) add(names[n] + ".bias", {linear[n][0]}, 0.3f);
      }
      const std::string prefix = "model.layers." + std::to_string(layer);
      add(prefix + ".input_layernorm.weight", {h}, 0.2f, 1);
      add(prefix + ".post_attention_layernorm.weight", {h}, 0.2f, 1);
    }
  }
};

}  // namespace lewis
