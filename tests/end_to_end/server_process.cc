#include "tests/end_to_end/server_process.h"

#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <stdexcept>
#include <utility>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/support/temporary_directory.h"

namespace dreamstate::testing {
namespace {

constexpr useconds_t kPollMicroseconds = 2000;

std::vector<std::string> Arguments(const ServerProcess::Setup& setup) {
  std::vector<std::string> arguments = {"--listen-address", "127.0.0.1:0", "--admin-address",
                                        setup.admin ? "127.0.0.1:0" : ""};
  if (!setup.repository.empty()) {
    arguments.insert(arguments.end(), {"--repository", setup.repository});
  }
  if (!setup.store.empty()) arguments.insert(arguments.end(), {"--store", setup.store});
  arguments.insert(arguments.end(), setup.flags.begin(), setup.flags.end());
  return arguments;
}

}  // namespace

ServerProcess::ServerProcess(const Setup& setup)
    : ServerProcess(WithArguments(Arguments(setup), setup.environment)) {}

ServerProcess ServerProcess::WithArguments(std::vector<std::string> arguments,
                                           std::vector<std::string> environment) {
  arguments.insert(arguments.end(), {"--port-file", "{directory}/ports.json"});
  return ServerProcess(ChildProcess(DREAMSTATE_SERVER_BINARY, std::move(arguments), environment));
}

bool ServerProcess::WaitUntilListening() {
  const std::string file = child_.directory() + "/ports.json";
  while (!std::filesystem::exists(file)) {
    if (!Running()) {
      ADD_FAILURE() << "the server exited with " << Wait() << ": " << Errors();
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

int ServerProcess::Stop() {
  Signal(SIGTERM);
  return Wait();
}

TakenPort::TakenPort() : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address = LoopbackAddress(0);
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
