// The examples that gsm8k_cot and mbpp show before each question, whatever the data.
#pragma once

#include <string>
#include <vector>

namespace lewis {

struct QuestionShot {
  std::string question, answer;
};
const std::vector<QuestionShot>& gsm8k_cot_shots();

struct ProgramShot {
  std::string text, code;
  std::vector<std::string> tests;
};
const std::vector<ProgramShot>& mbpp_shots();

}  // namespace lewis
