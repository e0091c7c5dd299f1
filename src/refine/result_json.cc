#include "refine/result_json.h"

#include "base/json.h"

namespace lewis {
namespace {

Json to_json(const ChoiceRecord& c) {
  return {{"layers", c.layers},
          {"alpha", c.choice.alpha},
          {"ridge", c.choice.ridge},
          {"prior_scale", c.choice.prior_scale},
          {"weighting", name_of(c.choice.weighting)},
          {"error_default", c.error_default},
          {"error", c.error}};
}

ChoiceRecord choice_of(const Json& json) {
  ChoiceRecord c{json.at("layers").get<std::string>(), {}, 0, 0};
  c.choice.alpha = json.at("alpha").get<double>();
  c.choice.ridge = json.at("ridge").get<double>();
  c.choice.prior_scale = json.at("prior_scale").get<double>();
  c.choice.weighting =
      value_of<RefineWeighting>(json.at("weighting").get<std::string>(), "weighting");
  c.error_default = json.at("error_default").get<double>();
  c.error = json.at("error").get<double>();
  return c;
}

}  // namespace

Json to_json(const BlockResult& r) {
  Json choices = Json::array();
  for (const ChoiceRecord& c : r.choices) choices.push_back(to_json(c));
  Json routers = Json::array();
  for (const RouterChoices& c : r.routers)
    routers.push_back({{"before", c.before}, {"after", c.after}});
  return {{"error_solved", r.error_solved},
          {"error_prior", r.error_prior},
          {"kept_prior", r.kept_prior},
          {"choices", choices},
          {"routers", routers},
          {"notes", r.notes},
          {"seconds", r.seconds}};
}

BlockResult block_result_of(const Json& json) {
  BlockResult result;
  result.error_solved = json.at("error_solved").get<double>();
  result.error_prior = json.at("error_prior").get<double>();
  result.kept_prior = json.at("kept_prior").get<bool>();
  for (const Json& choice : json.at("choices")) result.choices.push_back(choice_of(choice));
  for (const Json& c : json.at("routers"))
    result.routers.push_back({c.at("before").get<double>(), c.at("after").get<double>()});
  result.notes = json.at("notes").get<std::vector<std::string>>();
  result.seconds = json.at("seconds").get<double>();
  return result;
}

}  // namespace lewis
