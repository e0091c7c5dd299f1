// A recipe that merges the demo's experts and calibrates on their texts.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>

namespace lewis {

// Writes the recipe; `data` is the math expert's file in demo/data, `lambda` the merge's scale.
// Lines that follow in the file belong to its last section, `lewis:`.
inline void write_demo_recipe(const std::filesystem::path& file, const std::string& lambda,
                              const std::string& data = "math_train.jsonl") {
  std::ofstream(file) << "merge_method: task_arithmetic\nbase_model: demo/models/base\nmodels:\n"
                         "- {model: demo/models/math, parameters: {weight: 1}}\n"
                         "- {model: demo/models/code, parameters: {weight: 1}}\n"
                         "parameters: {lambda: "
                      << lambda
                      << "}\ndtype: bfloat16\nlewis:\n  calibration:\n"
                         "  - {model: demo/models/math, data: demo/data/"
                      << data
                      << ", format: gsm8k}\n  - {model: demo/models/code, data: "
                         "demo/data/code_train.jsonl, format: mbpp}\n  allocation: none\n";
}

}  // namespace lewis
