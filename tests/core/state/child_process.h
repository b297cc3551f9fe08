// This test program run once more as another process, in a role of its own (main.cc).
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace dreamstate::testing {

class ChildProcess {
 public:
  // Runs `role` with one argument; its output is read here.
  ChildProcess(const std::string& role, const std::string& argument);
  // Kills it if it still runs.
  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  // The next whole line; false when there are no more.
  bool ReadLine(std::string* line);
  // SIGKILL, and waits for its end; what it had written can still be read.
  void Kill();
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string buffer_;
};

// The roles; each returns an exit code.
// Opens the store, puts, labels and deletes states until it is killed, and says before and after
// each what it does.
int WriteUntilKilled(const std::string& path);
// Opens the store, says "held", and keeps it until it is killed.
int HoldUntilKilled(const std::string& path);

}  // namespace dreamstate::testing
