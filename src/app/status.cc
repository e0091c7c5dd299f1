// The verbs verify and status: what lies in a folder that lewis writes.
#include <lewis/status.h>

#include "app/run.h"
#include "base/dump_json.h"
#include "base/json.h"
#include "io/manifest.h"
#include "io/merge_status.h"
#include "io/work_status.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(); }

Json to_json(const MergeStatus& s) {
  Json workers = Json::array(), written = Json::array();
  for (const WorkerStatus& w : s.workers) {
    workers.push_back({{"host", w.host},
                       {"process", w.process},
                       {"task", w.task},
                       {"alive", w.alive ? Json(true) : Json()},
                       {"shards_left", w.shards},
                       {"bytes_left", w.bytes_left},
                       {"bytes_per_second", or_null(w.speed)},
                       {"finishes", w.finishes}});
  }
  for (const WrittenBy& w : s.written) {
    written.push_back({{"host", w.host},
                       {"process", w.process},
                       {"task", w.task},
                       {"shards", w.shards},
                       {"bytes", w.bytes},
                       {"bytes_per_second", or_null(w.speed)}});
  }
  return {{"out", s.out.string()},
          {"state", name_of(s.state)},
          {"complete", s.state == MergeState::kComplete},
          {"program", s.program},
          {"shards", s.shards},
          {"shards_done", s.shards_done},
          {"bytes", s.bytes},
          {"bytes_done", s.bytes_done},
          {"workers", workers},
          {"written_by", written},
          {"free_shards", s.free},
          {"process", s.process ? Json(*s.process) : Json()},
          {"bytes_per_second", or_null(s.speed)},
          {"seconds_left", or_null(s.seconds_left)},
          {"notes", s.notes}};
}

Json to_json(const WorkStatus& s) {
  Json works = Json::array(), workers = Json::array();
  for (const SharedWork& work : s.works) {
    works.push_back({{"name", work.name},
                     {"done", work.done},
                     {"total", work.total ? Json(*work.total) : Json()}});
  }
  for (const SharedWorker& w : s.workers) {
    workers.push_back({{"host", w.host},
                       {"process", w.process},
                       {"task", w.task},
                       {"alive", w.alive ? Json(true) : Json()},
                       {"left", w.left ? Json(*w.left) : Json()},
                       {"per_second", or_null(w.speed)}});
  }
  return {{"state", s.kind},
          {"unit", s.unit},
          {"works", works},
          {"workers", workers},
          {"per_second", or_null(s.speed)},
          {"seconds_left", or_null(s.seconds_left)}};
}

// Whether a folder holds a merge, or something of one.
bool has_merge(const fs::path& out) {
  fs::path partial = out.lexically_normal();
  if (!partial.has_filename()) partial = partial.parent_path();
  partial += ".partial";
  return out.extension() == ".partial" || fs::exists(out / kManifestName) || fs::exists(partial);
}

StatusResult result_of(MergeStatus s) {
  StatusResult result{s.out, std::string(name_of(s.state)), s.state == MergeState::kComplete};
  result.unit = "bytes";
  result.done = result.complete ? s.bytes : s.bytes_done;
  result.total = s.bytes;
  result.seconds_left = s.seconds_left;
  result.notes = s.notes;
  result.merge = std::make_shared<const MergeStatus>(std::move(s));
  return result;
}

StatusResult result_of(const fs::path& out, WorkStatus s) {
  StatusResult result{out, s.kind};
  result.unit = s.unit;
  result.total = 0;
  for (const SharedWork& work : s.works) {
    result.done += work.done;
    if (!work.total) result.total.reset();
    if (result.total) *result.total += *work.total;
  }
  result.complete = result.total && result.done == *result.total;
  result.seconds_left = s.seconds_left;
  result.work = std::make_shared<const WorkStatus>(std::move(s));
  return result;
}

}  // namespace

VerifyResult verify(const VerifyJob& job, const RunContext& context) {
  RunResources run(context);
  return {job.out, verify_folder(job.out, run.threads, run.progress)};
}

StatusResult status(const StatusJob& job, const RunContext& context) {
  RunContext alone = context;
  alone.threads = 1;
  RunResources run(alone);
  const auto watching = [&] {
    if (run.progress) run.progress({"watching the workers of other machines", "workers", 0, 1});
  };
  const WorkerPace pace{.patience = job.wait};
  if (!has_merge(job.out)) {
    if (auto work = work_status(job.out, pace, watching))
      return result_of(job.out, std::move(*work));
  }
  return result_of(merge_status(job.out, pace, watching));
}

std::string json_text(const VerifyResult& result) {
  return dump_json(Json{{"folder", result.out.string()}, {"verified_bytes", result.bytes}}, 2);
}

std::string json_text(const StatusResult& result) {
  return dump_json(result.merge ? to_json(*result.merge) : to_json(*result.work), 2);
}

}  // namespace lewis
