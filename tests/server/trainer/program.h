// dreamstate-trainer as a script sees it: output and exit codes.
#pragma once

#include <sys/wait.h>

#include <cstdlib>
#include <string>
#include <string_view>

#include "core/base/strings.h"
#include "tests/support/temporary_directory.h"

namespace dreamstate::testing {

struct Result {
  int code;
  std::string out;
  std::string err;
};

// `before`: what the shell does first.
inline Result RunTrainer(const std::string& arguments, std::string_view before = "") {
  TemporaryDirectory directory;
  const std::string command = StrCat(before, "'" DREAMSTATE_TRAINER "' ", arguments, " >'",
                                     directory / "out", "' 2>'", directory / "err", "'");
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, ReadAll(directory / "out"),
          ReadAll(directory / "err")};
}

}  // namespace dreamstate::testing
