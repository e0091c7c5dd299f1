// The metadata of a model: the keys "ARCHITECTURE.*", from its sizes and config.json.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "app/gguf/export.h"
#include "app/gguf/families/architecture.h"
#include "base/error.h"
#include "base/json_fwd.h"
#include "model/model_spec.h"

namespace lewis {

class KeyWriter {
 public:
  // `keys`: config.json, or its text_config. All must outlive this.
  KeyWriter(const GgufArchitecture& of_family, const ModelSpec& of_model, const Json& keys,
            const std::string& config_file, GgufExport& e)
      : architecture(of_family), spec(of_model), config(keys), file(config_file), e_(e) {}

  // Writes the keys that families share, and those that only this one has. Error(kInput) for what
  // llama.cpp computes otherwise than transformers.
  void write();

  // ---- for what only a family has ----

  const GgufArchitecture& architecture;
  const ModelSpec& spec;
  const Json& config;
  const std::string& file;

  void set(std::string_view key, GgufValue value);  // "rope.freq_base"
  void set_count(std::string_view key, int64_t value);
  void remove(std::string_view key);
  void make(std::string name, std::vector<float> values);  // a tensor of the file alone
  void set_linear_heads(const ValueHeads& heads) { e_.linear_heads = heads; }
  void note(std::string text);

  // A value of config.json, or nothing where it has none or null.
  const Json* find(std::string_view key) const;
  bool has(std::string_view key) const { return find(key) != nullptr; }
  // A number of `json`; Error(kInput) where it has none.
  double number(const Json& json, std::string_view key) const;
  // The settings of the main rope, {} where there are none: transformers 5 writes rope_parameters,
  // before it was rope_scaling.
  const Json& rope() const;
  std::string rope_type() const;  // "default" where nothing says another
  // original_max_position_embeddings, in the rope's settings or beside them.
  int64_t original_length() const;
  // `words` follow the file: what is there, and what llama.cpp computes.
  Error refuse(std::string_view words) const;
  // Refuses scores that are not multiplied by what llama.cpp multiplies them with.
  void expect_attention_scale(double expected) const;
  void expect_width_of_rope(int64_t expected) const;

 private:
  void write_sizes();
  void write_experts();
  void write_rope();
  void write_yarn(const Json& settings);
  void write_divisors();
  void write_windows();

  GgufExport& e_;
};

}  // namespace lewis
