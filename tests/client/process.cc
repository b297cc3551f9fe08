#include "tests/client/process.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace dreamstate::client {
namespace {

// Reads what is there; closes at the end.
void Drain(int* fd, std::string* text) {
  char buffer[4096];
  const ssize_t got = read(*fd, buffer, sizeof(buffer));
  if (got > 0) {
    text->append(buffer, static_cast<size_t>(got));
  } else {
    close(*fd);
    *fd = -1;
  }
}

// Command line and environment of a run, made before fork().
class Launch {
 public:
  Launch(const std::vector<std::string>& arguments,
         const std::map<std::string, std::string>& environment)
      : words_(arguments) {
    words_.insert(words_.begin(), DREAMSTATE_CLI);
    // Settings of whoever runs the tests must not reach the program.
    for (char** entry = environ; *entry != nullptr; ++entry) {
      const bool ours = absl::StartsWith(*entry, "DREAMSTATE_") ||
                        absl::StartsWith(*entry, "NO_COLOR=") ||
                        absl::StartsWith(*entry, "COLORTERM=") || absl::StartsWith(*entry, "TERM=");
      if (!ours) settings_.emplace_back(*entry);
    }
    for (const auto& [name, value] : environment)
      settings_.push_back(absl::StrCat(name, "=", value));
    for (std::string& word : words_) argv_.push_back(word.data());
    for (std::string& setting : settings_) envp_.push_back(setting.data());
    argv_.push_back(nullptr);
    envp_.push_back(nullptr);
  }

  [[noreturn]] void Execute() const {
    execve(argv_[0], argv_.data(), envp_.data());
    _exit(127);
  }

 private:
  std::vector<std::string> words_, settings_;
  std::vector<char*> argv_, envp_;
};

int ExitCode(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Process::Process(const std::vector<std::string>& arguments, const std::string& input,
                 const std::map<std::string, std::string>& environment, bool keep_input_open)
    : input_(input), keep_input_open_(keep_input_open) {
  signal(SIGPIPE, SIG_IGN);  // it may end before it has read its input
  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) {
    ADD_FAILURE() << "pipe";
    return;
  }
  const Launch launch(arguments, environment);
  pid_ = fork();
  if (pid_ == 0) {
    dup2(in[0], STDIN_FILENO);
    dup2(out[1], STDOUT_FILENO);
    dup2(err[1], STDERR_FILENO);
    signal(SIGINT, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    launch.Execute();
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  in_ = in[1];
  out_ = out[0];
  err_ = err[0];
  if (keep_input_open_) {
    EXPECT_EQ(write(in_, input_.data(), input_.size()), static_cast<ssize_t>(input_.size()));
    input_.clear();
  } else {
    fcntl(in_, F_SETFL, O_NONBLOCK);
  }
}

Process::~Process() {
  for (const int fd : {in_, out_, err_}) {
    if (fd >= 0) close(fd);
  }
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
}

void Process::Interrupt() { kill(pid_, SIGINT); }

Process::Result Process::Wait() {
  Result result;
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  while (out_ >= 0 || err_ >= 0) {
    if (!keep_input_open_ && in_ >= 0) {
      const ssize_t written = input_.empty() ? 0 : write(in_, input_.data(), input_.size());
      if (written > 0) input_.erase(0, static_cast<size_t>(written));
      if (input_.empty() || (written < 0 && errno != EAGAIN)) {
        close(in_);
        in_ = -1;
      }
    }
    pollfd fds[3] = {
        {out_, POLLIN, 0}, {err_, POLLIN, 0}, {keep_input_open_ ? -1 : in_, POLLOUT, 0}};
    poll(fds, 3, 1000);
    if (fds[0].revents != 0) Drain(&out_, &result.out);
    if (fds[1].revents != 0) Drain(&err_, &result.err);
    if (std::chrono::steady_clock::now() > limit) {
      ADD_FAILURE() << "dreamstate did not end; so far it wrote:\n" << result.out << result.err;
      kill(pid_, SIGKILL);
      break;
    }
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = -1;
  result.exit_code = ExitCode(status);
  return result;
}

Process::Result RunCli(const std::vector<std::string>& arguments, const std::string& input,
                       const std::map<std::string, std::string>& environment) {
  return Process(arguments, input, environment).Wait();
}

Process::Result RunOnTerminal(const std::vector<std::string>& arguments, const std::string& typed,
                              const std::map<std::string, std::string>& environment) {
  const Launch launch(arguments, environment);
  int terminal = -1;
  const winsize size = {24, 200, 0, 0};
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, &size);
  if (pid == 0) launch.Execute();
  Process::Result result;
  EXPECT_EQ(write(terminal, typed.data(), typed.size()), static_cast<ssize_t>(typed.size()));
  // Reading fails with EIO once the program has ended.
  while (terminal >= 0) Drain(&terminal, &result.out);
  int status = 0;
  waitpid(pid, &status, 0);
  result.exit_code = ExitCode(status);
  return result;
}

}  // namespace dreamstate::client
