#include "hub/cache_entry.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "base/current_error.h"
#include "base/error.h"
#include "base/whole_file.h"

namespace lewis {
namespace {

namespace fs = std::filesystem;

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw file_error(folder, "cannot be made", error);
}

// Puts a new small file at its place, unless one is there already.
void write_new(const fs::path& file, std::string_view content) {
  std::error_code error;
  if (fs::exists(file, error)) return;
  make_folder(file.parent_path());
  write_file_durably(file, content);
}

}  // namespace

CacheEntry::CacheEntry(fs::path cache, const RepoId& id)
    : cache_(std::move(cache)),
      folder_(cache_ / id.folder()),
      locks_(cache_ / ".locks" / id.folder()) {}

bool CacheEntry::has(const std::string& commit, const RemoteFile& file) const {
  std::error_code error;
  const uint64_t size = fs::file_size(snapshot(commit) / file.name, error);
  return !error && size == file.size;
}

std::string CacheEntry::commit_of(const std::string& revision) const {
  constexpr uint64_t kMostOfRef = 4096;
  const fs::path ref = folder_ / "refs" / revision;
  std::error_code error;
  if (!fs::is_regular_file(ref, error)) return "";
  std::string commit = read_whole_file(open_file(ref), ref, kMostOfRef);
  commit.erase(commit.find_last_not_of(" \r\n") + 1);
  return commit;
}

void CacheEntry::prepare() const {
  make_folder(folder_ / "blobs");
  make_folder(locks_);
  write_new(cache_ / "CACHEDIR.TAG",
            "Signature: 8a477f597d28d172789f06886806bc55\n"
            "# This file is a cache directory tag created by huggingface_hub.\n"
            "# For information about cache directory tags, see:\n"
            "#\thttps://bford.info/cachedir/\n");
}

File CacheEntry::lock(const std::string& hash, const StopFn& stop) const {
  const fs::path file = locks_ / (hash + ".lock");
  while (true) {
    std::error_code error;
    const bool is_new = !fs::exists(file, error);
    File lock = File::open_append(file);
    if (is_new) lock.set_mode(0664);  // other users of a shared cache wait for it, too
    if (lock.try_lock()) {
      if (fs::exists(file, error)) return lock;  // else its last holder has removed it
    } else if (errno != EWOULDBLOCK && errno != EINTR) {
      return lock;  // the file system knows no locks; blobs get their names by rename
    }
    if (stop && stop()) throw Error(ExitCode::kInterrupted, "interrupted");
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

void CacheEntry::link(const std::string& commit, const RemoteFile& file) const {
  const fs::path place = snapshot(commit) / file.name;
  make_folder(place.parent_path());
  const fs::path blob = this->blob(file.blob);
  const fs::path target = blob.lexically_relative(place.parent_path());
  const fs::path temporary =
      place.parent_path() / fmt::format(".{}.{}.tmp", place.filename().string(), ::getpid());
  std::error_code error;
  fs::remove(temporary, error);
  fs::create_symlink(target, temporary, error);
  if (error) fs::copy_file(blob, temporary, error);
  if (!error) fs::rename(temporary, place, error);
  if (!error) return;
  std::error_code ignored;
  fs::remove(temporary, ignored);
  throw file_error(place, "cannot be made", error);
}

void CacheEntry::write_ref(const std::string& revision, const std::string& commit) const {
  if (revision == commit || commit_of(revision) == commit) return;
  const fs::path ref = folder_ / "refs" / revision;
  make_folder(ref.parent_path());
  write_file_durably(ref, commit);
}

void CacheEntry::note_absent(const std::string& commit, const std::string& file) const {
  write_new(folder_ / ".no_exist" / commit / file, "");
}

}  // namespace lewis
