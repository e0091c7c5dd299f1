// A small Llama with random weights in a folder of its own; settings of config.json can be given,
// and a mixer for every other layer, from the first one on.
#pragma once

#include <map>
#include <random>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "model/block_steps.h"
#include "temp_dir.h"

namespace lewis {

struct RandomModel {
  explicit RandomModel(const Json& settings = Json::object(), const MixerPtr& mixer = {}) {
    config = {{"model_type", "llama"},  {"hidden_size", 24},        {"intermediate_size", 40},
              {"num_hidden_layers", 3}, {"num_attention_heads", 4}, {"num_key_value_heads", 2},
              {"head_dim", 8},          {"vocab_size", 50},         {"max_position_embeddings", 64},
              {"rms_norm_eps", 1e-5}};
    if (settings.is_object()) config.update(settings);
    spec = read_model_spec(config, "config.json");
    for (size_t i = 0; mixer && i < spec.layer.size(); i += 2) spec.layer[i].mixer = mixer;
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
    add("model.embed_tokens.weight", {spec.vocab, spec.hidden}, 1);
    add("model.norm.weight", {spec.hidden}, 0.2f, 1);
    if (!spec.tied_head) add("lm_head.weight", {spec.vocab, spec.hidden}, 0.3f);
    for (int64_t layer = 0; layer < spec.layers; ++layer) {
      const BlockSteps block = block_steps(spec, layer);
      for (const LinearLayer& linear : block.linears) {
        add(linear.tensor, linear.shape, 0.3f);
        if (!linear.bias.empty()) add(linear.bias, {linear.out}, 0.3f);
      }
      for (const BlockNorm& norm : block.norms) add(norm.name + ".weight", {norm.width}, 0.2f, 1);
      for (const OwnTensor& tensor : block.own) add(tensor.name, tensor.shape, 0.3f);
    }
  }
};

}  // namespace lewis
