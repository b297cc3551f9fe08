#include "tests/end_to_end/server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/temporary_directory.h"

extern char** environ;

namespace dreamstate::testing {
namespace {

constexpr useconds_t kPollMicroseconds = 2000;

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& text : strings) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::string ReadIfThere(const std::string& path) {
  return std::filesystem::exists(path) ? ReadAll(path) : std::string();
}

sockaddr_in Loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  return address;
}

}  // namespace

ServerProcess::ServerProcess(const Setup& setup) {
  std::vector<std::string> arguments = {"--listen-address", "127.0.0.1:0", "--admin-address",
                                        setup.admin ? "127.0.0.1:0" : ""};
  if (!setup.repository.empty()) {
    arguments.insert(arguments.end(), {"--repository", setup.repository});
  }
  if (!setup.store.empty()) arguments.insert(arguments.end(), {"--store", setup.store});
  arguments.insert(arguments.end(), setup.flags.begin(), setup.flags.end());
  Spawn(std::move(arguments), setup.environment);
}

ServerProcess ServerProcess::WithArguments(std::vector<std::string> arguments,
                                           std::vector<std::string> environment) {
  ServerProcess process;
  process.Spawn(std::move(arguments), environment);
  return process;
}

ServerProcess::ServerProcess(ServerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      exit_code_(other.exit_code_),
      directory_(std::exchange(other.directory_, "")),
      grpc_port_(other.grpc_port_),
      admin_port_(other.admin_port_) {}

ServerProcess::~ServerProcess() {
  if (pid_ > 0 && !exit_code_) {
    Signal(SIGKILL);
    Wait();
  }
  if (::testing::Test::HasFailure() && !directory_.empty()) {
    std::fprintf(stderr, "--- log of the server ---\n%s---\n", Errors().c_str());
  }
  std::error_code ignored;
  if (!directory_.empty()) std::filesystem::remove_all(directory_, ignored);
}

void ServerProcess::Spawn(std::vector<std::string> arguments,
                          const std::vector<std::string>& environment) {
  std::string name = (std::filesystem::temp_directory_path() / "dreamstate-server-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("cannot make " + name);
  directory_ = name;
  arguments.insert(arguments.begin(), DREAMSTATE_SERVER_BINARY);
  arguments.insert(arguments.end(), {"--port-file", directory_ + "/ports.json"});
  std::vector<std::string> variables = environment;
  for (char** variable = environ; *variable != nullptr; ++variable) variables.push_back(*variable);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  constexpr int kFlags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, (directory_ + "/stdout").c_str(), kFlags, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, (directory_ + "/stderr").c_str(), kFlags, 0600);
  const int error = posix_spawn(&pid_, DREAMSTATE_SERVER_BINARY, &actions, nullptr,
                                Pointers(arguments).data(), Pointers(variables).data());
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot start " DREAMSTATE_SERVER_BINARY);
}

bool ServerProcess::WaitUntilListening() {
  const std::string file = directory_ + "/ports.json";
  while (!std::filesystem::exists(file)) {
    if (!Running()) {
      ADD_FAILURE() << "the server exited with " << *exit_code_ << ": " << Errors();
      return false;
    }
    usleep(kPollMicroseconds);
  }
  const nlohmann::json ports = nlohmann::json::parse(ReadAll(file));
  grpc_port_ = ports["grpc"];
  admin_port_ = ports["admin"];
  return true;
}

std::string ServerProcess::address() const { return "127.0.0.1:" + std::to_string(grpc_port_); }

void ServerProcess::Signal(int signal) {
  if (!exit_code_) kill(pid_, signal);
}

bool ServerProcess::Running() {
  if (exit_code_) return false;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) != pid_) return true;
  exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return false;
}

int ServerProcess::Wait() {
  if (!exit_code_) {
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  return *exit_code_;
}

int ServerProcess::Stop() {
  Signal(SIGTERM);
  return Wait();
}

std::string ServerProcess::Errors() const { return ReadIfThere(directory_ + "/stderr"); }
std::string ServerProcess::Output() const { return ReadIfThere(directory_ + "/stdout"); }

std::string HttpGet(int port, const std::string& path) {
  const int connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(port);
  std::string response;
  if (connect(connection, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    const std::string request =
        "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if (send(connection, request.data(), request.size(), MSG_NOSIGNAL) ==
        static_cast<ssize_t>(request.size())) {
      char buffer[16384];
      ssize_t bytes = 0;
      while ((bytes = recv(connection, buffer, sizeof buffer, 0)) > 0) {
        response.append(buffer, static_cast<size_t>(bytes));
      }
    }
  }
  close(connection);
  const size_t body = response.find("\r\n\r\n");
  return response.starts_with("HTTP/1.1 200") && body != std::string::npos
             ? response.substr(body + 4)
             : std::string();
}

TakenPort::TakenPort() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = Loopback(0);
  socklen_t size = sizeof address;
  if (bind(socket_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      listen(socket_, 1) != 0 ||
      getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    throw std::runtime_error("cannot listen on 127.0.0.1");
  }
  port_ = ntohs(address.sin_port);
}

TakenPort::~TakenPort() { close(socket_); }

}  // namespace dreamstate::testing
