#include "io/json_lines.h"

#include <utility>

#include "base/build.h"
#include "base/current_error.h"
#include "base/dump_json.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/text_file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBegin = R"({"lewis_journal":)";  // of every journal
constexpr std::string_view kHashKey = "xxh3", kHashBegin = R"("xxh3":")", kHashEnd = "\"}";
constexpr size_t kHashDigits = 16;

std::string chained_hash(std::string_view previous, std::string_view text) {
  Xxh3 hash;
  hash.add(std::as_bytes(std::span(previous))).add(std::as_bytes(std::span(text)));
  return hash_text(hash.value());
}

// The line of a record, without '\n'. `hash` is that of the line before it and becomes its own.
std::string line_of(const Json& record, std::string& hash) {
  std::string line = dump_json(record);
  line.back() = ',';  // instead of '}'
  hash = chained_hash(hash, line);
  return line.append(kHashBegin).append(hash).append(kHashEnd);
}

// True if the line ends with the hash that belongs to it; then `hash` becomes that.
bool is_whole(std::string_view line, std::string& hash) {
  constexpr size_t kTail = kHashBegin.size() + kHashDigits + kHashEnd.size();
  if (line.size() < kTail || !line.ends_with(kHashEnd)) return false;
  const std::string_view text = line.substr(0, line.size() - kTail);
  const std::string expected = chained_hash(hash, text);
  if (line.substr(text.size()) != fmt::format("{}{}{}", kHashBegin, expected, kHashEnd))
    return false;
  hash = expected;
  return true;
}

Json head_of(const JournalIdentity& identity) {
  return {
      {"lewis_journal", identity.kind}, {"key", identity.key}, {"program", version_and_build()}};
}

// The part of a journal that can be believed.
struct Contents {
  Json head;  // null: no whole first line
  std::vector<Json> records;
  size_t bytes = 0;  // length of the lines that are believed
  std::string hash;  // the last one's hash
};

Contents parse_journal(const std::string& text, const fs::path& file) {
  Contents contents;
  for (size_t end; (end = text.find('\n', contents.bytes)) != std::string::npos;) {
    const auto line = std::string_view(text).substr(contents.bytes, end - contents.bytes);
    if (!is_whole(line, contents.hash)) break;
    Json json = parse_json(line, file.string());
    json.erase(std::string(kHashKey));
    if (contents.head.is_null()) {
      contents.head = std::move(json);
    } else {
      contents.records.push_back(std::move(json));
    }
    contents.bytes = end + 1;
  }
  // Without a first line it is a journal that a crash tore, or no journal at all.
  const bool torn = text.find('\n') == std::string::npos &&
                    (text.starts_with(kBegin) || kBegin.starts_with(text));
  if (contents.head.is_null() ? !torn : !contents.head.contains("lewis_journal")) {
    throw input_error("{}: is no journal of lewis, or its first line was changed; remove it",
                      file.string());
  }
  return contents;
}

void check_identity(const Contents& found, const JournalIdentity& identity, const fs::path& file) {
  if (found.head.is_null() || found.head == head_of(identity)) return;
  const std::string program = found.head.value("program", "");
  if (program == version_and_build()) throw begun_otherwise(file);
  throw usage_error(
      "{}: was begun by lewis {}, and this is lewis {}; resume it with that program, or begin anew "
      "without --resume",
      file.string(), program, version_and_build());
}

File open_locked(const fs::path& path) {
  std::error_code error;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
  if (error) throw file_error(path.parent_path(), "cannot be made", error);
  File file = File::open_append(path);
  if (!file.try_lock()) {
    throw usage_error("{}: another process does the same work, which this file records",
                      path.string());
  }
  return file;
}

}  // namespace

Error begun_otherwise(const fs::path& path) {
  return usage_error(
      "{}: was begun with another recipe, other models or other options; resume it with those, or "
      "begin anew without --resume",
      path.string());
}

bool is_journal_of(const fs::path& path, std::string_view kind) {
  try {
    const std::string begin = fmt::format(R"({}"{}",)", kBegin, kind);
    std::string found(begin.size(), '\0');
    const File file = File::open_read(path);
    if (file.size() < found.size()) return false;
    file.read_at(0, std::as_writable_bytes(std::span(found)));
    return found == begin;
  } catch (const Error&) {
    return false;
  }
}

OpenedJournal JsonLines::open(const fs::path& path, const JournalIdentity& identity,
                              Existing existing) {
  File file = open_locked(path);
  Contents found = parse_journal(read_text_file(path), path);
  if (existing == Existing::kResume) check_identity(found, identity, path);
  if (existing == Existing::kBegin || found.head != head_of(identity)) found = {};
  fs::resize_file(path, found.bytes);
  JsonLines journal(std::move(file), found.hash);
  if (found.bytes == 0) {
    journal.append(head_of(identity));
    journal.sync();
    sync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
  }
  return {std::move(journal), std::move(found.records)};
}

JsonLines JsonLines::begin(const fs::path& path, const JournalIdentity& identity,
                           std::span<const Json> records) {
  std::string hash;
  std::string text = line_of(head_of(identity), hash) + "\n";
  for (const Json& record : records) text += line_of(record, hash) + "\n";
  write_file_durably(path, text);
  return JsonLines(File::open_append(path), std::move(hash));
}

void JsonLines::append(const Json& record) {
  std::string hash = hash_;
  file_.append(line_of(record, hash) + "\n");
  hash_ = std::move(hash);
}

SeenJournal look_at_journal(const fs::path& path) {
  Contents found = parse_journal(read_text_file(path), path);
  if (found.head.is_null()) return {};
  return {{found.head.value("lewis_journal", ""), found.head.value("key", "")},
          found.head.value("program", ""),
          std::move(found.records)};
}

std::vector<Json> read_json_lines(const fs::path& path, const JournalIdentity& identity) {
  Contents found = parse_journal(read_text_file(path), path);
  check_identity(found, identity, path);
  return std::move(found.records);
}

}  // namespace lewis
