// What lies in a folder that lewis writes: whether its bytes are right, and how far the work on it
// is. Nothing here changes anything on disk.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <lewis/export.h>
#include <lewis/run_context.h>

namespace lewis {

// ---- verify ----

struct VerifyJob {
  std::filesystem::path out;  // a folder that merge() has written
};
struct VerifyResult {
  std::filesystem::path out;
  uint64_t bytes = 0;  // that were read and are right
};

// Compares every byte with the manifest in the folder. Throws Error(kVerify) that names file and
// tensor, or a file that the manifest does not name and a loader might read; Error(kInput): there
// is no manifest. (prove() of lewis.h says whether a model holds an adapter.)
LEWIS_API VerifyResult verify(const VerifyJob& job, const RunContext& run = {});

// ---- status: how far a merge is, or an evaluation or calibration in parts ----

struct MergeStatus;
struct WorkStatus;

struct StatusJob {
  // The folder that merge() writes or will write, the `output` of an evaluation in parts, or the
  // cache of a calibration in parts.
  std::filesystem::path out;
  // A worker of another machine that does not count up in this time is not taken for alive; 0: it
  // is not watched.
  std::chrono::seconds wait{25};
};

struct StatusResult {
  std::filesystem::path out;
  // Of a merge: "complete", "workers" (they write it, or did) or "one process". Else what it is:
  // "evaluation" or "calibration".
  std::string state;
  bool complete = false;
  // Of a merge in bytes of its shards; else in items or pieces, whose total is known when workers
  // have said it for all works.
  std::string unit;
  uint64_t done = 0;
  std::optional<uint64_t> total;
  std::optional<double> seconds_left;  // where somebody alive is at work and has finished something
  std::vector<std::string> notes;      // one line each
  // One of both; json_text has all of it.
  std::shared_ptr<const MergeStatus> merge;
  std::shared_ptr<const WorkStatus> work;
};

// Throws Error(kInput): there is no such work; Error(kVerify): a complete model whose files have
// not the sizes of its manifest.
LEWIS_API StatusResult status(const StatusJob& job, const RunContext& run = {});

// The objects that `lewis verify --json` and `lewis status --json` print.
LEWIS_API std::string json_text(const VerifyResult& result);
LEWIS_API std::string json_text(const StatusResult& result);

}  // namespace lewis
