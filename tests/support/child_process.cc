#include "tests/support/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "gtest/gtest.h"
#include "tests/support/temporary_directory.h"

extern char** environ;

namespace dreamstate::testing {
namespace {

constexpr std::string_view kDirectory = "{directory}";

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::string ReadIfThere(const std::string& path) {
  return std::filesystem::exists(path) ? ReadAll(path) : std::string();
}

int ExitCode(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

ChildProcess::ChildProcess(const std::string& program, std::vector<std::string> arguments,
                           const std::vector<std::string>& environment) {
  std::string name = (std::filesystem::temp_directory_path() / "dreamstate-child-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
  directory_ = name;
  for (std::string& argument : arguments) {
    const size_t at = argument.find(kDirectory);
    if (at != std::string::npos) argument.replace(at, kDirectory.size(), directory_);
  }
  arguments.insert(arguments.begin(), program);
  std::vector<std::string> variables = environment;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, (directory_ + "/stdout").c_str(), kFlags, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, (directory_ + "/stderr").c_str(), kFlags, 0600);
  const int error = posix_spawn(&pid_, program.c_str(), &actions, nullptr,
                                Pointers(arguments).data(), Pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot start " + program);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      exit_code_(other.exit_code_),
      directory_(std::exchange(other.directory_, "")) {}

ChildProcess::~ChildProcess() {
  if (pid_ > 0 && !exit_code_) {
    Signal(SIGKILL);
    Wait();
  }
  if (directory_.empty()) return;
  if (::testing::Test::HasFailure()) {
    std::fprintf(stderr, "--- log of the child ---\n%s---\n", Errors().c_str());
  }
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void ChildProcess::Signal(int signal) {
  if (!exit_code_) kill(pid_, signal);
}

bool ChildProcess::Running() {
  if (exit_code_) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return true;
  exit_code_ = ExitCode(status);
  return false;
}

int ChildProcess::Wait() {
  if (!exit_code_) {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    exit_code_ = ExitCode(status);
  }
  return *exit_code_;
}

std::string ChildProcess::Errors() const { return ReadIfThere(directory_ + "/stderr"); }
std::string ChildProcess::Output() const { return ReadIfThere(directory_ + "/stdout"); }

}  // namespace dreamstate::testing
