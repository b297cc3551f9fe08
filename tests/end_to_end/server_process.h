// The real dreamstate-server as a child process on free ports. Killed, if it still runs, when this
// object goes.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

namespace dreamstate::testing {

class ServerProcess {
 public:
  // What the program was started with. `store` and `repository` are added unless empty; ports are
  // free ones.
  struct Setup {
    std::string repository;
    std::string store;
    bool admin = false;                         // with /metrics
    std::vector<std::string> flags = {};        // more flags
    std::vector<std::string> environment = {};  // "NAME=value", added to ours
  };

  // Starts the program; does not wait for anything.
  explicit ServerProcess(const Setup& setup);
  // Starts the program with exactly these arguments.
  static ServerProcess WithArguments(std::vector<std::string> arguments,
                                     std::vector<std::string> environment = {});
  ~ServerProcess();
  ServerProcess(ServerProcess&& other) noexcept;
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // Waits until it listens; fails the test and answers false when it exits first.
  bool WaitUntilListening();
  // "127.0.0.1:port", once it listens.
  std::string address() const;
  int admin_port() const { return admin_port_; }

  pid_t pid() const { return pid_; }
  void Signal(int signal);
  // Waits for the end. The exit code, or 128 + the signal that ended it.
  int Wait();
  bool Running();
  // SIGTERM, then Wait.
  int Stop();

  // What it has written so far.
  std::string Errors() const;
  std::string Output() const;

 private:
  ServerProcess() = default;
  void Spawn(std::vector<std::string> arguments, const std::vector<std::string>& environment);

  pid_t pid_ = -1;
  std::optional<int> exit_code_;
  std::string directory_;  // of its output and port file
  int grpc_port_ = 0;
  int admin_port_ = 0;
};

// The body of an HTTP GET from 127.0.0.1; empty when it fails.
std::string HttpGet(int port, const std::string& path);

// A TCP port of 127.0.0.1 that this object listens on.
class TakenPort {
 public:
  TakenPort();
  ~TakenPort();
  TakenPort(const TakenPort&) = delete;
  TakenPort& operator=(const TakenPort&) = delete;
  int port() const { return port_; }

 private:
  int socket_ = -1;
  int port_ = 0;
};

}  // namespace dreamstate::testing
