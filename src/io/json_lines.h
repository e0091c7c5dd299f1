// A journal: a file of JSON lines that grows by one line per finished piece of work, so that an
// interrupted program goes on where it stopped. Evaluation, tuning, refinement and the writer of
// model folders keep their records in this form.
//
// The first line is the journal's identity: its kind, its key and the program that began it. Every
// line ends with a hash over its own text and the hash of the line before it. A reader therefore
// believes the lines up to the first one that is torn, changed, missing, or was put there from
// another journal, and none after it.
//
//   {"lewis_journal":"evaluation","key":"5f0c...","program":"0.1.0 (build ...)","xxh3":"..."}
//   {"item":0,"scores":[[1,1]],"xxh3":"0123456789abcdef"}
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/json_fwd.h"
#include "io/file.h"

namespace lewis {

// Records are taken over only from a journal of the same identity that the same build has written.
struct JournalIdentity {
  std::string kind;  // "evaluation"
  std::string key;   // changes with everything that decides the records, except for the program
};

// The ways in which JsonLines::open treats a journal that exists.
enum class Existing {
  kResume,         // takes over its records; refuses one of another identity
  kResumeOrBegin,  // takes over its records; begins anew in place of one of another identity
  kBegin           // begins anew
};

struct OpenedJournal;

// A journal that is open for more records. A record is a JSON object without a key "xxh3".
class JsonLines {
 public:
  // Makes the file, or opens it and cuts off what cannot be believed. The journal is locked until
  // the object goes. Error(kUsage): another process has it open, or it is of another identity.
  // Error(kInput): the file is there and is no journal. Error(kResource): a full disk.
  static OpenedJournal open(const std::filesystem::path& file, const JournalIdentity& identity,
                            Existing existing);
  // Replaces the file, durably, by a journal that holds these records. It is not locked: whoever
  // calls this holds a lock on the folder.
  static JsonLines begin(const std::filesystem::path& file, const JournalIdentity& identity,
                         std::span<const Json> records = {});

  // The record outlives this process, but a power cut may take it as long as sync() was not called.
  void append(const Json& record);
  // Returns when all records are on the disk.
  void sync() const { file_.sync(); }

  const std::filesystem::path& path() const { return file_.path(); }

 private:
  JsonLines(File file, std::string hash) : file_(std::move(file)), hash_(std::move(hash)) {}

  File file_;
  std::string hash_;  // of the last line
};

struct OpenedJournal {
  JsonLines journal;
  std::vector<Json> records;  // that were taken over
};

// The records of a journal that can be believed. The same errors as JsonLines::open with
// Existing::kResume; the file stays as it is.
std::vector<Json> read_json_lines(const std::filesystem::path& file,
                                  const JournalIdentity& identity);

// A journal that somebody only looks at, whatever work and program it belongs to.
struct SeenJournal {
  JournalIdentity identity;
  std::string program;
  std::vector<Json> records;  // that can be believed
};
// Error(kInput): the file cannot be read, or is no journal. One that a crash has torn in its first
// line has an empty identity.
SeenJournal look_at_journal(const std::filesystem::path& file);

// True if the file begins as a journal of this kind does.
bool is_journal_of(const std::filesystem::path& file, std::string_view kind);

// Refuses what was begun for other work: an Error(kUsage) about a journal, or a folder that has
// one.
Error begun_otherwise(const std::filesystem::path& path);

}  // namespace lewis
