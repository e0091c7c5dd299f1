// Which part of a merge a process is, by the environments that launchers make.
#include <gtest/gtest.h>
#include <lewis/lewis.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "scoped_env.h"

namespace lewis {
namespace {

using Environment = std::map<std::string, std::string>;

constexpr const char* kVariables[] = {"SLURM_ARRAY_TASK_ID",
                                      "SLURM_ARRAY_TASK_COUNT",
                                      "SLURM_ARRAY_TASK_MIN",
                                      "SLURM_ARRAY_TASK_MAX",
                                      "SLURM_ARRAY_TASK_STEP",
                                      "SLURM_PROCID",
                                      "SLURM_NTASKS",
                                      "SLURM_STEP_NUM_TASKS",
                                      "OMPI_COMM_WORLD_RANK",
                                      "OMPI_COMM_WORLD_SIZE",
                                      "PMI_RANK",
                                      "PMI_SIZE",
                                      "JOB_COMPLETION_INDEX",
                                      "JOB_COMPLETIONS"};

// The part as text, or the error.
std::string part_in(const Environment& environment, const std::string& text = "auto") {
  std::vector<std::unique_ptr<ScopedEnv>> set;
  for (const char* name : kVariables) {
    const auto value = environment.find(name);
    set.push_back(
        std::make_unique<ScopedEnv>(name, value == environment.end() ? "" : value->second));
  }
  try {
    const MergePart part = parse_part(text);
    return std::to_string(part.index) + "/" + std::to_string(part.count);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ExitCode::kUsage);
    return e.what();
  }
}

Environment array(int id, int count, int first, int last) {
  return {{"SLURM_ARRAY_TASK_ID", std::to_string(id)},
          {"SLURM_ARRAY_TASK_COUNT", std::to_string(count)},
          {"SLURM_ARRAY_TASK_MIN", std::to_string(first)},
          {"SLURM_ARRAY_TASK_MAX", std::to_string(last)}};
}

TEST(MergeParts, AsTheUserSays) {
  EXPECT_EQ(part_in({}, "0/1"), "0/1");
  EXPECT_EQ(part_in({}, "63/64"), "63/64");
  for (const char* text :
       {"", "1", "/", "1/", "/2", "a/b", "1/2/3", "-1/2", "+1/2", "1/-2", " 1/2", "1/2 ", "0x1/2",
        "1.0/2", "99999999999999999999/2", "automatic", "auto/", "auto/x", "auto/2/3"}) {
    EXPECT_NE(part_in({}, text).find("expected I/N"), std::string::npos) << text;
  }
  EXPECT_NE(part_in({}, "2/2").find("expected 0/2 to 1/2"), std::string::npos);
  EXPECT_NE(part_in({}, "0/0").find("expected 1 to"), std::string::npos);
  EXPECT_NE(part_in({}, "0/2000000").find("expected 1 to"), std::string::npos);
}

TEST(MergeParts, ArrayJobsOfSlurm) {
  for (int id = 0; id < 8; ++id) {
    EXPECT_EQ(part_in(array(id, 8, 0, 7)), std::to_string(id) + "/8");
    EXPECT_EQ(part_in(array(id + 1, 8, 1, 8)), std::to_string(id) + "/8");
    EXPECT_EQ(part_in(array(10 + 5 * id, 8, 10, 45)), std::to_string(id) + "/8");
  }
  EXPECT_EQ(part_in(array(17, 1, 17, 17)), "0/1");
  EXPECT_NE(part_in(array(2, 4, 1, 7)).find("not equally far apart"), std::string::npos);
  EXPECT_NE(part_in(array(4, 3, 1, 8)).find("not equally far apart"), std::string::npos);
  // A batch script of several tasks in which lewis runs once.
  Environment batch = array(3, 4, 0, 3);
  batch.insert({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "8"}});
  EXPECT_EQ(part_in(batch), "3/4");
  batch["SLURM_PROCID"] = "5";  // and with srun
  batch["SLURM_STEP_NUM_TASKS"] = "8";
  EXPECT_EQ(part_in(batch), "29/32");
}

TEST(MergeParts, ProcessesOfOneJob) {
  EXPECT_EQ(part_in({{"SLURM_PROCID", "2"}, {"SLURM_NTASKS", "4"}}), "2/4");
  EXPECT_EQ(part_in({{"OMPI_COMM_WORLD_RANK", "2"}, {"OMPI_COMM_WORLD_SIZE", "4"}}), "2/4");
  EXPECT_EQ(part_in({{"PMI_RANK", "0"}, {"PMI_SIZE", "3"}}), "0/3");
  // mpirun within Slurm: srun started one process per node.
  EXPECT_EQ(part_in({{"OMPI_COMM_WORLD_RANK", "9"},
                     {"OMPI_COMM_WORLD_SIZE", "16"},
                     {"SLURM_PROCID", "1"},
                     {"SLURM_STEP_NUM_TASKS", "2"}}),
            "9/16");
  EXPECT_EQ(part_in({{"JOB_COMPLETION_INDEX", "5"}, {"JOB_COMPLETIONS", "6"}}), "5/6");
}

TEST(MergeParts, TheNumberMayComeFromTheUser) {
  EXPECT_EQ(part_in({{"JOB_COMPLETION_INDEX", "5"}}, "auto/16"), "5/16");
  EXPECT_EQ(part_in({{"SLURM_ARRAY_TASK_ID", "5"}}, "auto/16"), "5/16");
  EXPECT_NE(part_in({{"JOB_COMPLETION_INDEX", "5"}}).find("auto/N"), std::string::npos);
  EXPECT_NE(part_in({{"JOB_COMPLETION_INDEX", "5"}}, "auto/5").find("0/5 to 4/5"),
            std::string::npos);
}

TEST(MergeParts, EnvironmentsThatMakeNoSense) {
  EXPECT_NE(part_in({}).find("SLURM_ARRAY_TASK_ID"), std::string::npos);
  EXPECT_NE(part_in({}, "auto/4").find("no number"), std::string::npos);
  EXPECT_NE(part_in({{"PMI_RANK", "three"}, {"PMI_SIZE", "4"}}).find("PMI_RANK=three"),
            std::string::npos);
  EXPECT_NE(part_in({{"PMI_RANK", "4"}, {"PMI_SIZE", "4"}}).find("PMI_RANK is 4"),
            std::string::npos);
}

}  // namespace
}  // namespace lewis
