// Everything in lewis that reads bytes of strangers, as functions that a fuzzer calls.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace lewis {

// A folder of this process, in which a target puts its input where a file is wanted.
class FuzzFolder {
 public:
  FuzzFolder();
  ~FuzzFolder();
  FuzzFolder(const FuzzFolder&) = delete;
  FuzzFolder& operator=(const FuzzFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(std::string_view name, std::string_view bytes) const;

 private:
  std::filesystem::path path_;
};

struct FuzzTarget {
  std::string_view name;  // and of its folder in fuzz/seeds
  // Reads `bytes`. An Error is a right answer; every other exception, a broken law (FUZZ_CHECK) and
  // what the sanitizers see end the process.
  void (*run)(std::string_view bytes, const FuzzFolder& folder);
};

std::span<const FuzzTarget> fuzz_targets();

// Ends the process when a law that holds for every input does not hold.
void fuzz_check(bool holds, std::string_view law);

}  // namespace lewis
