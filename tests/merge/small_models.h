// Small models that a test writes by hand, and recipes over them.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "base/text_file.h"
#include "io/checkpoint.h"
#include "memory_source.h"
#include "merge/engine.h"
#include "merge/inputs.h"
#include "temp_dir.h"

namespace lewis {

using Values = std::map<std::string, std::vector<float>>;  // by tensor

// A folder of models of F32 vectors and matrices, and what recipes make of them.
class SmallModels : public testing::Test {
 protected:
  // `shapes`: of tensors that are no vectors.
  void write(const std::string& model, const Values& values, const Json& config,
             const std::map<std::string, Shape>& shapes = {},
             const std::map<std::string, DType>& types = {}) const {
    MemorySource source;
    for (const auto& [name, of_name] : values) {
      const auto shape = shapes.find(name);
      const auto type = types.find(name);
      source.add(
          name, type == types.end() ? DType::kF32 : type->second,
          shape == shapes.end() ? Shape{static_cast<int64_t>(of_name.size())} : shape->second,
          of_name);
    }
    std::filesystem::create_directories(dir_.path / model);
    source.write(dir_.path / model / "model.safetensors");
    std::ofstream(dir_.path / model / "config.json") << config.dump();
  }

  // A LoRA of rank 1 and alpha 1. `tensors`: the keys behind "base_model.model.".
  void write_adapter(const std::string& adapter, const Values& tensors,
                     const std::map<std::string, Shape>& shapes, Json more = Json::object()) const {
    MemorySource source;
    for (const auto& [name, values] : tensors)
      source.add(name, DType::kF32, shapes.at(name), values);
    std::filesystem::create_directories(dir_.path / adapter);
    source.write(dir_.path / adapter / "adapter_model.safetensors");
    Json config = {{"peft_type", "LORA"}, {"r", 1}, {"lora_alpha", 1}};
    config.update(more);
    std::ofstream(dir_.path / adapter / "adapter_config.json") << config.dump();
  }

  Recipe recipe(const std::string& text) const { return parse_recipe(text, dir_.path / "r.yml"); }

  // Merges into a folder of its own and returns all tensors; `report_` and `config_` are set.
  Values merged(const std::string& text) {
    const std::filesystem::path out = dir_.path / fmt::format("out{}", ++runs_);
    Threads threads(2);
    report_ = merge(recipe(text), {.out = out}, threads);
    const Checkpoint model = Checkpoint::open(out);
    config_ = std::filesystem::exists(out / "config.json") ? model.config() : Json();
    Values all;
    for (const TensorInfo& t : model.tensors()) all[t.name] = model.read_floats(t);
    return all;
  }

  bool has_note(const std::string& part) const {
    for (const std::string& line : report_.warnings) {
      if (line.find(part) != std::string::npos) return true;
    }
    return false;
  }

  void expect_refused(const std::string& text, ExitCode code, const std::string& said) {
    try {
      merged(text);
      ADD_FAILURE() << "accepted; expected: " << said;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), code) << e.what();
      EXPECT_NE(std::string(e.what()).find(said), std::string::npos) << e.what();
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
  }

  TempDir dir_;
  MergeReport report_;
  Json config_;
  int runs_ = 0;
};

}  // namespace lewis
