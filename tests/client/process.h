// The program `dreamstate` as a process of its own, with pipes at both ends.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace dreamstate::client {

class Process {
 public:
  struct Result {
    int exit_code = -1;  // 128 + signal when a signal ended it
    std::string out, err;
  };

  // Starts `dreamstate` with `arguments`; `environment` is added to ours. `input` becomes its
  // standard input, which stays open after it when `keep_input_open`. Made while `Wait` runs, so at
  // most a pipe's worth (64 KiB) when kept open.
  Process(const std::vector<std::string>& arguments, const std::string& input = "",
          const std::map<std::string, std::string>& environment = {}, bool keep_input_open = false);
  // Kills it when it still runs.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void Interrupt();
  // Reads its output to the end and waits for it; at most 60 s, then it is killed.
  Result Wait();

 private:
  pid_t pid_ = -1;
  int in_ = -1, out_ = -1, err_ = -1;
  std::string input_;
  bool keep_input_open_;
};

// Runs it to the end.
Process::Result RunCli(const std::vector<std::string>& arguments, const std::string& input = "",
                       const std::map<std::string, std::string>& environment = {});

// Runs it on a terminal of its own, where `typed` is typed at once; what it shows there is `out`.
Process::Result RunOnTerminal(const std::vector<std::string>& arguments,
                              const std::string& typed = "",
                              const std::map<std::string, std::string>& environment = {});

}  // namespace dreamstate::client
