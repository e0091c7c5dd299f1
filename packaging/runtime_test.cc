// A program that is linked as the packages' program is (cmake/portable.cmake) and checks what the
// start file, the shims and the stand-ins for glibc must give: constructors, destructors,
// exceptions, threads, files, random numbers and the environment. It prints what fails.
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

int failures = 0;
void expect(bool holds, const char* what) {
  if (holds) return;
  fmt::print(stderr, "runtime_test: {}\n", what);
  ++failures;
}

int constructed = 0, arguments_seen = 0;
__attribute__((constructor)) void count_arguments(int argc, char** argv, char** environment) {
  arguments_seen = argc == 2 && std::strcmp(argv[1], "argument") == 0 && environment == environ;
}
struct Counter {
  explicit Counter(int step) { constructed += step; }
};
const Counter first(1), second(10);

int at_exit_file = -1;
void write_at_exit() { expect(write(at_exit_file, "e", 1) == 1, "write in atexit"); }
struct WritesAtEnd {
  ~WritesAtEnd() { expect(write(at_exit_file, "d", 1) == 1, "write in a destructor"); }
};

// Throws through `depth` frames, each with something to destroy.
void throw_deep(int depth, std::vector<int>& destroyed) {
  struct Mark {
    std::vector<int>* list;
    int depth;
    ~Mark() { list->push_back(depth); }
  } mark{&destroyed, depth};
  if (depth == 0) throw std::runtime_error("deep");
  throw_deep(depth - 1, destroyed);
}

bool catches() {
  std::vector<int> destroyed;
  try {
    throw_deep(20, destroyed);
  } catch (const std::runtime_error& e) {
    return std::string(e.what()) == "deep" && destroyed.size() == 21 && destroyed.front() == 0;
  }
  return false;
}

// qsort's frames are glibc's, so the table for them is found through the loader.
int throwing_order(const void*, const void*) { throw 7; }
bool catches_through_glibc() {
  int numbers[] = {3, 1, 2};
  try {
    std::qsort(numbers, 3, sizeof *numbers, throwing_order);
  } catch (int number) {
    return number == 7;
  }
  return false;
}

thread_local std::unique_ptr<std::string> of_thread;

void check_threads() {
  std::vector<std::thread> threads;
  std::vector<int> caught(8);
  auto shared = std::make_shared<int>(5);
  for (int& result : caught) {
    threads.emplace_back([&result, shared] {
      of_thread = std::make_unique<std::string>("own");
      result = catches();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int result : caught) expect(result, "an exception in a thread");
  expect(shared.use_count() == 1, "references of threads are counted");

  const pid_t child = fork();
  if (child == 0) _exit(catches() ? 0 : 1);
  int status = -1;
  expect(waitpid(child, &status, 0) == child && status == 0, "an exception in a child of fork");
}

void check_files(const std::filesystem::path& folder) {
  const std::filesystem::path file = folder / "file", link = folder / "link";
  std::ofstream(file) << "12345";
  std::filesystem::create_symlink("file", link);
  struct stat found = {};
  expect(stat(link.c_str(), &found) == 0 && found.st_size == 5 && S_ISREG(found.st_mode), "stat");
  expect(lstat(link.c_str(), &found) == 0 && S_ISLNK(found.st_mode), "lstat");
  const int open_file = open(file.c_str(), O_RDONLY);
  expect(fstat(open_file, &found) == 0 && found.st_size == 5, "fstat");
  close(open_file);
  expect(
      fstatat(AT_FDCWD, link.c_str(), &found, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(found.st_mode),
      "fstatat");
  expect(stat((folder / "none").c_str(), &found) == -1 && errno == ENOENT,
         "stat of what is missing");
  expect(std::filesystem::file_size(file) == 5 && std::filesystem::is_symlink(link),
         "std::filesystem");
}

}  // namespace

int main(int, char** argv) {
  expect(constructed == 11, "constructors ran once");
  expect(arguments_seen, "constructors see the arguments and the environment");
  expect(std::strstr(argv[0], "runtime_test") != nullptr, "argv");
  setenv("LEWIS_RUNTIME_TEST", "set", 1);
  bool listed = false;  // `environ` of the program and of glibc are one variable
  for (char** entry = environ; *entry; ++entry)
    listed |= std::string(*entry) == "LEWIS_RUNTIME_TEST=set";
  expect(listed, "environ");
  expect(catches(), "an exception");
  expect(catches_through_glibc(), "an exception through glibc");
  check_threads();

  char folder[] = "/tmp/lewis-runtime-XXXXXX";
  expect(mkdtemp(folder) != nullptr, "mkdtemp");
  check_files(folder);
  std::random_device random;
  expect(random() != random() || random() != random(), "std::random_device");
  volatile double one = 1;
  expect(std::abs(std::exp(one) - 2.718281828459045) < 1e-15 && std::pow(one + 1, 10) == 1024,
         "exp and pow");
  expect(fmt::format("{:.3f} {}", 0.5, 1e300) == "0.500 1e+300", "fmt");

  // What runs after main(): the end of a child tells.
  int ends[2];
  expect(pipe(ends) == 0, "pipe");
  const pid_t child = fork();
  if (child == 0) {
    at_exit_file = ends[1];
    static const WritesAtEnd last;
    std::atexit(write_at_exit);
    std::exit(failures);
  }
  close(ends[1]);
  char text[4] = {};
  expect(
      read(ends[0], text, 1) == 1 && read(ends[0], text + 1, 1) == 1 && std::string(text) == "ed",
      "atexit and destructors, the last first");
  int status = -1;
  expect(waitpid(child, &status, 0) == child && status == 0, "exit");
  std::filesystem::remove_all(folder);
  return failures;
}
