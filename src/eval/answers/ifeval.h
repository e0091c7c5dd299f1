// The rules of IFEval (Zhou et al., "Instruction-Following Evaluation for Large Language Models",
// arXiv 2311.07911) as lm-evaluation-harness checks them (task ifeval, version 4).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace lewis {

struct IfevalRule {
  std::string id;                   // "length_constraints:number_words"
  Json arguments = Json::object();  // {"relation": "at least", "num_words": 300}
};

// The rules of a row of the data: instruction_id_list and kwargs, of which null counts as not
// given. Throws Error(kInput) that begins with `where` for a rule that is not known, lists of
// different lengths, or an argument that is missing or not of its type.
std::vector<IfevalRule> read_ifeval_rules(const Json& row, const std::string& where);

// The ids of all rules, 25 of them.
std::vector<std::string_view> ifeval_rule_ids();

struct IfevalVerdict {
  std::vector<bool> strict, loose;  // one a rule
};
// strict: the response follows the rule. loose: it does so as it is, or without its first line, its
// last or both, each with and without asterisks. An empty response follows nothing.
IfevalVerdict check_ifeval(const std::vector<IfevalRule>& rules, const std::string& response);

}  // namespace lewis
