// Exceptions of the language and its library as the one exception type of lewis.
#pragma once

#include <lewis/error.h>

#include <filesystem>
#include <string_view>
#include <system_error>

namespace lewis {

// Resources (4) when the system has run out of something (memory, threads, files, disk, the size
// that a file may have), input (3) when it refuses a name or a file.
ExitCode exit_code_of(const std::error_code& code);

// "PATH: cannot be opened: No such file or directory", where `doing` is "cannot be opened", with
// exit_code_of what the system says: errno where no code is given.
Error file_error(const std::filesystem::path& path, std::string_view doing,
                 const std::error_code& code);
Error file_error(const std::filesystem::path& path, std::string_view doing);

// The exception that is being handled, as an Error: itself; lack of memory and sizes that no memory
// has, kResource; errors of the system by exit_code_of, with the paths that they name; a JSON value
// of another kind, kInput; all others, kFailed. Call it in a catch block.
Error current_error();

}  // namespace lewis
