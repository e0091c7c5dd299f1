// The verbs as their user runs them, on the demo's models.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <sstream>

#include "base/json.h"
#include "run_lewis.h"
#include "temp_dir.h"

namespace lewis {
namespace {

class Verbs : public LewisTest {};

TEST_F(Verbs, MergeVerifyInspectDiff) {
  const Json merged = json("merge demo/recipe.yml " + out() + " --no-guidance --out-shard-size 1M");
  EXPECT_EQ(merged["merged"], 74);
  EXPECT_EQ(merged["shards"], 4);
  EXPECT_GT(json("verify " + out())["verified_bytes"], 3'400'000);
  EXPECT_EQ(json("inspect " + out())["parameters"], 1'706'112);
  EXPECT_EQ(json("inspect " + out() + " model.norm.weight")["shape"], (Json{128}));
  const Json diff = json("diff demo/models/base " + out());
  EXPECT_EQ(diff["tensors"].size(), 74u);
  EXPECT_LT(diff["all"]["relative_change"], 0.2);
  EXPECT_EQ(json("diff " + out() + " " + out())["all"]["equal_share"], 1);
  std::filesystem::remove(out() + "/model-00003-of-00004.safetensors");
  EXPECT_EQ(lewis("verify " + out()).code, 5);
}

// The plan is a stock recipe: merged without guidance it gives the guided merge.
TEST_F(Verbs, ThePlanIsARecipe) {
  const std::string plan = (dir_.path / "plan.yml").string(),
                    other = (dir_.path / "other").string();
  EXPECT_EQ(lewis("plan demo/recipe.yml -o " + plan).code, 0);
  EXPECT_EQ(lewis("merge demo/recipe.yml " + out()).code, 0);
  EXPECT_EQ(file_text(plan).find("lewis:"), std::string::npos);
  EXPECT_EQ(lewis("merge " + plan + " " + other).code, 0);
  EXPECT_EQ(file_text(out() + "/model.safetensors"), file_text(other + "/model.safetensors"));
  // OUT's recipe names no folders: it is merged again where they are.
  for (const char* folder : {"models", "data"}) {
    for (const auto& entry :
         std::filesystem::directory_iterator(std::filesystem::path(LEWIS_DEMO) / folder))
      std::filesystem::create_symlink(entry.path(), dir_.path / entry.path().filename());
  }
  const lewis::Run again = run_lewis(
      dir_.path, "merge " + out() + "/mergekit_config.yml " + other + " --force", dir_.path);
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_EQ(file_text(out() + "/model.safetensors"), file_text(other + "/model.safetensors"));
}

TEST_F(Verbs, StatisticsAreOfOneComputeType) {
  const std::string command =
      "calibrate demo/models/base --data demo/data/math_train.jsonl --format gsm8k --samples 2 ";
  EXPECT_EQ(json(command)["origin"]["compute"], "f32") << "what every machine gives";
  EXPECT_EQ(json(command + "--compute f32 --max-memory 1G")["reused"], true);
  const std::string faster = json(command + "--compute auto")["origin"]["compute"];
  EXPECT_EQ(json(command + "--compute " + faster)["reused"], true);
  EXPECT_EQ(json("plan demo/recipe.yml --compute auto")["compute"], faster);
  EXPECT_NE(lewis("merge demo/recipe.yml " + out()).out.find("linear layers in f32"),
            std::string::npos);
  EXPECT_EQ(json(command + "--protocol reference")["origin"]["compute"], "f32");
  const lewis::Run little = lewis(command + "--compute f32 --seed 7 --max-memory 1M");
  EXPECT_EQ(little.code, 4);
  EXPECT_NE(little.err.find("needs at least"), std::string::npos) << little.err;
  const lewis::Run unknown = lewis(command + "--compute f16");
  EXPECT_EQ(unknown.code, 2);
  EXPECT_NE(unknown.err.find("expected f32, bf16 or auto"), std::string::npos) << unknown.err;
}

TEST_F(Verbs, CheckSeesModelsThatAreNotKin) {
  const Json good = json("check demo/recipe.yml");
  EXPECT_TRUE(good["warnings"].empty()) << good;
  EXPECT_GT(good["models"][0]["cosine_to_base"], 0.98);
}

TEST_F(Verbs, ExplainSaysWhereValuesComeFrom) {
  const lewis::Run result = lewis("merge demo/recipe.yml " + out() +
                                  " --no-guidance --explain model.layers.3.mlp.up_proj.weight");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.out.find("density = 0.5 from parameters"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("weight = 1 from models[1].parameters"), std::string::npos)
      << result.out;
  const lewis::Run guided =
      lewis("merge demo/recipe.yml " + out() + " --explain model.layers.3.mlp.up_proj.weight");
  EXPECT_NE(guided.out.find("filter 'model.layers.3.mlp.up_proj'"), std::string::npos)
      << guided.out;
  EXPECT_FALSE(std::filesystem::exists(out()));
}

TEST_F(Verbs, MergekitsFlagsAreAccepted) {
  const lewis::Run result = lewis(
      "merge demo/recipe.yml " + out() +
      " --no-guidance --cuda --lazy-unpickle --allow-crimes --no-copy-tokenizer --random-seed 4");
  EXPECT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("--cuda has no meaning here"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(out() + "/tokenizer.json"));
}

TEST_F(Verbs, StacksLayers) {
  std::ofstream(dir_.path / "stack.yml")
      << "merge_method: passthrough\nslices:\n- sources: [{model: demo/models/math, layer_range: "
         "[0, 6]}]\n"
         "- sources: [{model: demo/models/code, layer_range: [2, 8]}]\n";
  EXPECT_EQ(json("merge " + (dir_.path / "stack.yml").string() + " " + out())["copied"],
            12 * 9 + 2);
  EXPECT_EQ(read_json(out() + "/config.json")["num_hidden_layers"], 12);
  const lewis::Run scored =
      lewis("eval " + out() + " --task loss:demo/data/math_test.jsonl:gsm8k --limit 5 --json -q");
  EXPECT_EQ(scored.code, 0) << scored.err;
  EXPECT_EQ(json("diff demo/models/base " + out())["only_in_b"].size(), 4 * 9u);
}

// A guided merge that is never written is the written one, bit for bit.
TEST_F(Verbs, EvaluatesAndCalibratesARecipe) {
  EXPECT_EQ(lewis("merge demo/recipe.yml " + out()).code, 0);
  const Json scored = json("eval " + out() +
                           " demo/recipe.yml --task loss:demo/data/math_test.jsonl:gsm8k --task "
                           "loss:demo/data/code_test.jsonl:mbpp --limit 4");
  for (const char* task : {"loss_math_test", "loss_code_test"}) {
    const auto values = [&](size_t model) {
      return scored["models"][model]["lewis"]["tasks"][task]["items"]["values"]["answer_loss,none"];
    };
    EXPECT_EQ(values(0).size(), 4u);
    EXPECT_EQ(values(0), values(1));
  }
  const auto sums = [&](const std::string& model) {
    const std::string file = (dir_.path / "sums.gguf").string();
    json("calibrate " + model +
         " --data demo/data/math_train.jsonl --format gsm8k --samples 2 -o " + file);
    return file_text(file);
  };
  const std::string written = sums(out()), on_demand = sums("demo/recipe.yml");
  EXPECT_EQ(written.size(), on_demand.size());
  EXPECT_EQ(written.substr(written.size() / 2), on_demand.substr(on_demand.size() / 2));
}

// Two blocks' worth of text, so that a run takes a moment.
const char* kRefined =
    "merge_method: task_arithmetic\nbase_model: demo/models/base\nmodels:\n"
    "- {model: demo/models/math, parameters: {weight: 0.7}}\n"
    "- {model: demo/models/code, parameters: {weight: 0.7}}\ndtype: bfloat16\nlewis:\n"
    "  calibration:\n"
    "  - {model: demo/models/math, data: demo/data/math_train.jsonl, format: gsm8k}\n"
    "  - {model: demo/models/code, data: demo/data/code_train.jsonl, format: mbpp}\n"
    "  refine: {samples: 16, ridge: 0.1}\n";

// Better where the experts collide; what eval refines is what merge writes.
TEST_F(Verbs, RefinesAMerge) {
  const std::string recipe = (dir_.path / "r.yml").string(), plain = (dir_.path / "p").string();
  std::ofstream(recipe) << kRefined;
  const Json merged = json("merge " + recipe + " " + out());
  EXPECT_GT(merged["refined"], 50);
  EXPECT_EQ(merged["refined"].get<int>() + merged["merged"].get<int>(), 74);
  EXPECT_NE(merged["warnings"].dump().find("of 8 blocks"), std::string::npos) << merged;
  EXPECT_EQ(json("plan " + recipe)["compute"], "") << "calibration is for refinement alone";
  EXPECT_FALSE(std::filesystem::exists(out() + ".refined.partial"));
  EXPECT_EQ(lewis("verify " + out()).code, 0);
  EXPECT_EQ(lewis("merge " + recipe + " " + plain + " --no-guidance").code, 0);
  const Json scored = json("eval " + plain + " " + out() + " " + recipe +
                           " --task loss:demo/data/math_test.jsonl:gsm8k --task "
                           "loss:demo/data/code_test.jsonl:mbpp --limit 40");
  const auto loss = [&](size_t model, const char* task) {
    const Json& items = scored["models"][model]["lewis"]["tasks"][task]["items"]["values"];
    double sum = 0;
    for (const Json& value : items["answer_loss,none"]) sum += value.get<double>();
    return sum;
  };
  for (const char* task : {"loss_math_test", "loss_code_test"}) {
    EXPECT_EQ(loss(1, task), loss(2, task));
  }
  EXPECT_LT(loss(1, "loss_math_test"), 0.95 * loss(0, "loss_math_test"));
}

// `passes: 2` is the refinement of the merge that the first pass makes: the same bytes as of a
// recipe that begins with that model.
TEST_F(Verbs, ASecondPassRefinesTheFirst) {
  const std::string head =
      "base_model: demo/models/base\ndtype: bfloat16\nlewis:\n  calibration:\n"
      "  - {model: demo/models/math, data: demo/data/math_train.jsonl, format: gsm8k}\n"
      "  - {model: demo/models/code, data: demo/data/code_train.jsonl, format: mbpp}\n"
      "  refine: {samples: 6, held_out: 0.3, ridge: auto, alpha: auto, passes: ";
  const auto models = [](const std::string& first, const char* weight) {
    std::string text = "models:\n";
    if (!first.empty()) text += "- {model: " + first + ", parameters: {weight: 1}}\n";
    for (const char* name : {"math", "code"})
      text +=
          fmt::format("- {{model: demo/models/{}, parameters: {{weight: {}}}}}\n", name, weight);
    return text;
  };
  const std::string one = (dir_.path / "one").string(), again = (dir_.path / "again").string();
  const auto merge = [&](const std::string& text, const std::string& to) {
    const std::string recipe = (dir_.path / "r.yml").string();
    std::ofstream(recipe) << text;
    const lewis::Run run = lewis("merge " + recipe + " " + to + " --report");
    EXPECT_EQ(run.code, 0) << run.err;
    return run.err;
  };
  const std::string sum = "merge_method: task_arithmetic\n" + models("", "0.7") + head;
  merge(sum + "1}\n", one);
  merge("merge_method: linear\n" + models(one, "0") + head + "1}\n", again);
  const std::string said = merge(sum + "2}\n", out());
  EXPECT_NE(said.find("pass 2: refined "), std::string::npos) << said;
  EXPECT_NE(said.find("numbers were chosen for 32 groups of layers"), std::string::npos) << said;
  EXPECT_EQ(file_text(out() + "/model.safetensors"), file_text(again + "/model.safetensors"));
  EXPECT_NE(file_text(out() + "/model.safetensors"), file_text(one + "/model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(out() + ".refined.partial"));

  // The record and the page show the refined merge.
  const Json passes = read_json(out() + "/lewis_run.json").at("refinement");
  ASSERT_EQ(passes.size(), 2u);
  for (const Json& pass : passes) {
    ASSERT_EQ(pass["blocks"].size(), 8u);
    for (const Json& block : pass["blocks"]) {
      EXPECT_EQ(block["choices"].size(), 4u);
      EXPECT_GT(block["seconds"], 0);
      EXPECT_EQ(block["kept_prior"], block["error_prior"] < block["error_solved"]);
    }
  }
  const std::string page = file_text(out() + "/report.html");
  for (const char* part :
       {"Output error before and after refinement", "Refinement, pass 1", "Refinement, pass 2",
        "held-out text", "Numbers chosen, pass 1", "of 32 groups left the defaults"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  EXPECT_EQ(page.find("of the merge before"), std::string::npos);
}

// What refinement takes and does is said before it is done, and where it is left out.
TEST_F(Verbs, SaysThatItWillRefine) {
  const std::string recipe = (dir_.path / "r.yml").string(), plan = (dir_.path / "p.yml").string();
  std::ofstream(recipe) << kRefined;
  const Json cost = json("merge " + recipe + " " + out() + " --dry-run")["refinement"];
  EXPECT_GT(cost["tokens"], 32);
  EXPECT_GT(cost["scratch_bytes"], 1'000'000);
  const uint64_t least = cost["least_memory"];
  EXPECT_LT(least, cost["peak_memory"]);
  const auto with = [&](uint64_t limit) {
    return lewis("merge " + recipe + " " + out() + " --dry-run --max-memory " +
                 std::to_string(limit));
  };
  EXPECT_NE(with(least).out.find("Refinement: memory about"), std::string::npos) << with(least).err;
  EXPECT_EQ(with(least - 1).code, 4);
  EXPECT_FALSE(std::filesystem::exists(out() + ".refined.partial"));

  const lewis::Run planned = lewis("plan " + recipe + " -o " + plan);
  EXPECT_NE(planned.out.find("will then be refined by regression (ridge 0.1) towards 2 experts"),
            std::string::npos)
      << planned.out;
  EXPECT_NE(planned.out.find("a merge of it is not refined"), std::string::npos) << planned.out;
  EXPECT_EQ(json("plan " + recipe)["refinement"].get<std::string>().find("refined by regression"),
            0u);
  const lewis::Run explained =
      lewis("merge " + recipe + " " + out() + " --explain model.norm.weight");
  EXPECT_NE(explained.out.find("before refinement"), std::string::npos) << explained.out;
}

// Interrupted, it says so; resumed, it ends with the bytes of a run that was left in peace.
TEST_F(Verbs, RefinementGoesOnAfterAnInterrupt) {
  const std::string recipe = (dir_.path / "r.yml").string(), peace = (dir_.path / "peace").string();
  std::ofstream(recipe) << kRefined;
  EXPECT_EQ(lewis("merge " + recipe + " " + peace).code, 0);
  EXPECT_EQ(lewis("merge " + recipe + " " + out() + " --require-partial").code, 2);
  const lewis::Run stopped = run_lewis(
      dir_.path, "merge " + recipe + " " + out() +
                     " & pid=$!; while kill -0 $pid 2>/dev/null && ! [ -e '" + out() +
                     ".refined.partial/block-00001.safetensors' ]; do :; done; kill -INT $pid "
                     "2>/dev/null; wait $pid");
  if (stopped.code == 0) GTEST_SKIP() << "the run was faster than its interrupt";
  EXPECT_EQ(stopped.code, 130) << stopped.err;
  EXPECT_FALSE(std::filesystem::exists(out()));
  const lewis::Run resumed = lewis("merge " + recipe + " " + out() + " --resume");
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(file_text(out() + "/model.safetensors"), file_text(peace + "/model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(out() + ".refined.partial"));
}

// Whatever a thread runs (oneDNN's sgemm has its stack in a small buffer then), no signal handler
// writes onto its stack: SIGINT (bit 1) and SIGTERM (bit 14) are blocked in all others.
TEST_F(Verbs, SignalsInterruptNoThread) {
  const std::string recipe = (dir_.path / "r.yml").string();
  std::ofstream(recipe) << kRefined;
  const lewis::Run run = run_lewis(
      dir_.path, "merge " + recipe + " " + out() +
                     " >/dev/null & pid=$!; while kill -0 $pid 2>/dev/null && ! [ -e '" + out() +
                     ".refined.partial' ]; do :; done; "
                     "cat /proc/$pid/task/*/status | grep ^SigBlk; wait $pid");
  std::istringstream lines(run.out);
  std::string name, mask;
  size_t threads = 0, open = 0;
  for (; lines >> name >> mask; ++threads)
    open += (std::stoull(mask, nullptr, 16) & 0x4002u) != 0x4002u;
  EXPECT_GE(threads, 2u) << run.out << run.err;
  EXPECT_EQ(open, 1u) << "but in the one that waits for them: " << run.out;
}

// --layers: an expert does not differ from itself, the base does, on text that calibrated nothing.
TEST_F(Verbs, LayersAreComparedWithTheExperts) {
  const Json errors = json("eval demo/models/base demo/models/math --layers demo/recipe.yml")
                          .at("activation_errors");
  const Json &base = errors.at("base").at("demo/models/math"),
             &math = errors.at("math").at("demo/models/math");
  EXPECT_EQ(base.size(), 7u * 8u);
  for (const auto& [module, value] : math.items()) {
    EXPECT_EQ(value, 0.0) << module;
    EXPECT_GT(base.at(module).get<double>(), 0.01) << module;
  }
  const lewis::Run refused = lewis("eval demo/models/base --layers demo/models/base");
  EXPECT_EQ(refused.code, 3) << refused.err;
  EXPECT_TRUE(refused.out.empty());
}

}  // namespace
}  // namespace lewis
