// Which part of a merge this process is (docs/clusters.md).
#include <charconv>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <system_error>

#include <lewis/merge_part.h>

#include "base/error.h"

namespace lewis {
namespace {

constexpr uint64_t kMostParts = 1'000'000;

std::optional<uint64_t> number_of(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The value of a variable; nothing where it is not set. Error(kUsage) where it is no number.
std::optional<uint64_t> variable(const char* name) {
  const char* text = std::getenv(name);
  if (!text || !*text) return std::nullopt;
  const auto value = number_of(text);
  if (!value) throw usage_error("--part auto: {}={}: expected a number", name, text);
  return value;
}

MergePart checked_part(uint64_t index, uint64_t count, std::string_view text) {
  if (count == 0 || count > kMostParts)
    throw usage_error("--part {}: expected 1 to {} parts, found {}", text, kMostParts, count);
  if (index >= count) {
    throw usage_error("--part {}: parts are counted from 0: expected 0/{} to {}/{}", text, count,
                      count - 1, count);
  }
  return {index, count};
}

// Both numbers of a launcher's variables, or nothing.
std::optional<MergePart> part_of(const char* index_name, const char* count_name) {
  const auto index = variable(index_name), count = variable(count_name);
  if (!index || !count) return std::nullopt;
  if (*index >= *count) {
    throw usage_error("--part auto: {} is {} and {} is {}; give the part as --part I/N", index_name,
                      *index, count_name, *count);
  }
  return MergePart{*index, *count};
}

// A task of an array job of Slurm: the array's numbers may begin anywhere and have equal steps.
std::optional<MergePart> part_of_array() {
  const auto id = variable("SLURM_ARRAY_TASK_ID"), count = variable("SLURM_ARRAY_TASK_COUNT");
  if (!id || !count) return std::nullopt;
  const uint64_t first = variable("SLURM_ARRAY_TASK_MIN").value_or(0);
  const uint64_t last = variable("SLURM_ARRAY_TASK_MAX").value_or(first + *count - 1);
  const uint64_t steps = *count > 1 ? *count - 1 : 1;
  const uint64_t step = *count > 1 && last > first ? (last - first) / steps : 1;
  const bool even = step > 0 && *id >= first && (*id - first) % step == 0 &&
                    (*count == 1 || last - first == step * steps);
  if (!even || (*id - first) / step >= *count) {
    throw usage_error(
        "--part auto: task {} of an array of {} from {} to {}, which are not equally far apart; "
        "give the part as --part I/N",
        *id, *count, first, last);
  }
  return MergePart{(*id - first) / step, *count};
}

// A process among those that one srun or mpirun has started. mpirun comes first: within Slurm its
// processes have the variables of srun, too, which number the nodes.
std::optional<MergePart> part_of_processes() {
  for (const auto& [index, count] :
       {std::pair{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
        std::pair{"PMI_RANK", "PMI_SIZE"}, std::pair{"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}}) {
    if (auto part = part_of(index, count)) return part;
  }
  return std::nullopt;
}

std::optional<MergePart> part_of_environment() {
  const auto array = part_of_array(), processes = part_of_processes();
  if (array && processes) {
    return MergePart{array->index * processes->count + processes->index,
                     array->count * processes->count};
  }
  if (array) return array;
  if (processes) return processes;
  if (auto part = part_of("SLURM_PROCID", "SLURM_NTASKS")) return part;
  return part_of("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS");
}

// The index alone, for a count that the user gives.
std::optional<uint64_t> index_of_environment() {
  if (const auto part = part_of_environment()) return part->index;
  for (const char* name : {"SLURM_ARRAY_TASK_ID", "OMPI_COMM_WORLD_RANK", "PMI_RANK",
                           "SLURM_PROCID", "JOB_COMPLETION_INDEX"}) {
    if (const auto index = variable(name)) return index;
  }
  return std::nullopt;
}

constexpr std::string_view kAuto = "auto";

}  // namespace

MergePart parse_part(const std::string& text) {
  const size_t slash = text.find('/');
  const std::string_view first = std::string_view(text).substr(0, slash);
  if (first == kAuto && slash == std::string::npos) {
    if (const auto part = part_of_environment()) return *part;
    if (index_of_environment())
      throw usage_error(
          "--part auto: this job's environment does not say of how many; give it as "
          "--part auto/N");
    throw usage_error(
        "--part auto: this is no task of an array job, of srun or mpirun, or of an indexed job; "
        "expected SLURM_ARRAY_TASK_ID, SLURM_PROCID, OMPI_COMM_WORLD_RANK, PMI_RANK or "
        "JOB_COMPLETION_INDEX in the environment, or --part I/N");
  }
  const auto count = slash == std::string::npos
                         ? std::nullopt
                         : number_of(std::string_view(text).substr(slash + 1));
  auto index = first == kAuto ? std::optional<uint64_t>(0) : number_of(first);
  if (!index || !count)
    throw usage_error("--part {}: expected I/N, as in 0/8, or auto, or auto/N", text);
  if (first == kAuto) index = index_of_environment();
  if (!index) throw usage_error("--part {}: the environment has no number of a task", text);
  return checked_part(*index, *count, text);
}

}  // namespace lewis
