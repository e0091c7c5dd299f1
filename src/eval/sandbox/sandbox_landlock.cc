#include "eval/sandbox/sandbox_landlock.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>

namespace lewis {
namespace {

// The kernel's struct landlock_ruleset_attr; the header of an older system lacks its end.
struct RulesetAttributes {
  uint64_t files = 0, network = 0, scopes = 0;
};

constexpr uint64_t kReading =
    LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kOldest = (uint64_t{1} << 13) - 1;  // all rights of the first version
constexpr uint64_t kRename = uint64_t{1} << 13, kTruncate = uint64_t{1} << 14,
                   kDevices = uint64_t{1} << 15;
constexpr uint64_t kBindAndConnect = 3, kAbstractSocketsAndSignals = 3;

// All that this version of Landlock can refuse.
RulesetAttributes all_of(long version) {
  RulesetAttributes all;
  all.files = kOldest | (version >= 2 ? kRename : 0) | (version >= 3 ? kTruncate : 0) |
              (version >= 5 ? kDevices : 0);
  if (version >= 4) all.network = kBindAndConnect;
  if (version >= 6) all.scopes = kAbstractSocketsAndSignals;
  return all;
}

size_t size_of(long version) {
  return version >= 6   ? sizeof(RulesetAttributes)
         : version >= 4 ? offsetof(RulesetAttributes, scopes)
                        : offsetof(RulesetAttributes, network);
}

// A path that is not there needs no rule.
bool allow(int rules, const char* path, uint64_t rights) {
  const int file = open(path, O_PATH | O_CLOEXEC);
  if (file < 0) return true;
  landlock_path_beneath_attr rule = {};
  rule.allowed_access = rights;
  rule.parent_fd = file;
  const bool done =
      syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
  close(file);
  return done;
}

// Rights of folders are no rights of files.
bool allow_reading(int rules, const char* path) {
  return allow(rules, path, kReading) ||
         allow(rules, path, kReading & ~LANDLOCK_ACCESS_FS_READ_DIR);
}

}  // namespace

bool restrict_files(const ChildPlan& plan) {
  const long version =
      syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  if (version < 1) return true;
  const RulesetAttributes all = all_of(version);
  const auto rules =
      static_cast<int>(syscall(SYS_landlock_create_ruleset, &all, size_of(version), 0));
  if (rules < 0) return false;
  for (const std::string& path : plan.visible) {
    if (!allow_reading(rules, path.c_str())) return false;
  }
  const bool done = allow(rules, plan.folder.c_str(), all.files) &&
                    syscall(SYS_landlock_restrict_self, rules, 0) == 0;
  close(rules);
  return done;
}

}  // namespace lewis
