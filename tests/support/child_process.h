// A program as a child process with a directory of its own for what it writes. Killed, if it still
// runs, when this object goes.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace dreamstate::testing {

class ChildProcess {
 public:
  // Starts `program`; "{directory}" within an argument stands for directory(). `environment`:
  // "NAME=value", added to ours.
  ChildProcess(const std::string& program, std::vector<std::string> arguments,
               const std::vector<std::string>& environment = {});
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  pid_t pid() const { return pid_; }
  // Removed with this object.
  const std::string& directory() const { return directory_; }
  void Signal(int signal);
  // Waits for the end. The exit code, or 128 + the signal that ended it.
  int Wait();
  bool Running();

  // What it has written so far.
  std::string Errors() const;
  std::string Output() const;

 private:
  pid_t pid_ = -1;
  std::optional<int> exit_code_;
  std::string directory_;
};

}  // namespace dreamstate::testing
