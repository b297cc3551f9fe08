// The real dreamstate-server as a child process on free ports. Killed, if it still runs, when this
// object goes.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/support/child_process.h"
#include "tests/support/http.h"

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
  // Waits until it listens; fails the test and answers false when it exits first.
  bool WaitUntilListening();
  // "127.0.0.1:port", once it listens.
  std::string address() const;
  int admin_port() const { return admin_port_; }

  pid_t pid() const { return child_.pid(); }
  void Signal(int signal) { child_.Signal(signal); }
  // Waits for the end. The exit code, or 128 + the signal that ended it.
  int Wait() { return child_.Wait(); }
  bool Running() { return child_.Running(); }
  // SIGTERM, then Wait.
  int Stop();

  // What it has written so far.
  std::string Errors() const { return child_.Errors(); }
  std::string Output() const { return child_.Output(); }

 private:
  explicit ServerProcess(ChildProcess child) : child_(std::move(child)) {}

  ChildProcess child_;
  int grpc_port_ = 0;
  int admin_port_ = 0;
};

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
