// A head that config.json ties to the embeddings: a stored copy is the embeddings, other values are
// a head of its own.
#include <gtest/gtest.h>

#include "random_model.h"
#include "test_model.h"

namespace lewis {
namespace {

// The logits of a short text.
std::vector<float> logits_of(const TestModel& model) {
  const std::vector<int32_t> ids = {3, 1, 4, 1, 5, 9};
  const auto hidden = run_layers(model.transformer, make_batch(std::span(&ids, 1)), {});
  const std::vector<int64_t> rows = {0, 1, 2, 3, 4, 5};
  std::vector<float> logits(rows.size() * static_cast<size_t>(model.transformer.spec().vocab));
  model.transformer.head(hidden, rows, logits);
  return logits;
}

std::vector<float> logits_of(const RandomModel& random) {
  return logits_of(TestModel(random.dir.path));
}

// The same weights under a config.json that unties the head.
std::vector<float> untied_logits_of(RandomModel& random) {
  const Json config = random.config;
  random.config["tie_word_embeddings"] = false;
  random.write();
  std::vector<float> logits = logits_of(random);
  random.config = config;
  random.write();
  return logits;
}

TEST(TiedHeads, TheStoredValuesDecide) {
  for (const Json& settings :
       {Json{{"tie_word_embeddings", true}}, Json{{"model_type", "starcoder2"},
                                                  {"norm_epsilon", 1e-5},
                                                  {"use_bias", false},
                                                  {"sliding_window", nullptr}}}) {
    RandomModel random(settings);
    if (random.spec.model_type == "starcoder2") {
      for (auto& [name, values] : std::map(random.tensors)) {
        if (name.find("norm") == std::string::npos) continue;
        const std::string bias = name.substr(0, name.rfind('.')) + ".bias";
        random.add(bias, random.shapes.at(name), 0.1f);
      }
    }
    ASSERT_TRUE(random.spec.tied_head);
    random.write();
    const std::vector<float> tied = logits_of(random);
    EXPECT_FALSE(TestModel(random.dir.path).transformer.untied_head().has_value());

    random.tensors["lm_head.weight"] = random.tensors["model.embed_tokens.weight"];
    random.shapes["lm_head.weight"] = random.shapes["model.embed_tokens.weight"];
    random.write();
    EXPECT_EQ(logits_of(random), tied);
    EXPECT_FALSE(TestModel(random.dir.path).transformer.untied_head().has_value());

    random.tensors["lm_head.weight"].back() += 1;  // one value in the last row
    random.write();
    EXPECT_TRUE(TestModel(random.dir.path).transformer.untied_head().has_value());
    EXPECT_NE(logits_of(random), tied);
    EXPECT_EQ(logits_of(random), untied_logits_of(random));
  }
}

// The forward pass goes by the same spellings as adapters and merges.
TEST(Spellings, TheTextModelIsFoundByAnyOfThem) {
  RandomModel random;
  const std::vector<float> expected = logits_of(random);
  const auto tensors = random.tensors;
  const auto shapes = random.shapes;
  struct Place {
    std::string prefix, head;
  };
  for (const auto& [prefix, head] :
       {Place{"language_model.model.", "language_model.lm_head."},
        Place{"model.language_model.", "lm_head."}, Place{"", "lm_head."},
        Place{"_orig_mod.model.", "_orig_mod.lm_head."},
        Place{"module.model.", "module.lm_head."}}) {
    random.tensors.clear();
    random.shapes.clear();
    for (const auto& [name, values] : tensors) {
      const std::string now =
          name.starts_with("model.") ? prefix + name.substr(6) : head + name.substr(8);
      random.tensors[now] = values;
      random.shapes[now] = shapes.at(name);
    }
    random.write();
    EXPECT_EQ(logits_of(random), expected) << prefix;
  }
}

}  // namespace
}  // namespace lewis
