// dreamstate-server: reads options, runs the server until a signal, drains.
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "core/base/strings.h"
#include "kernels/runtime/cpu.h"
#include "server/inference/log.h"
#include "server/inference/options.h"
#include "server/inference/server.h"
#include "spdlog/spdlog.h"

namespace dreamstate::server {
namespace {

// The exit codes of --help.
enum ExitCode { kDrained = 0, kCannotRun = 1, kBadOptions = 2, kCutOff = 3 };

sigset_t EndingSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

int WaitForSignal(const sigset_t& signals) {
  int signal = 0;
  while (sigwait(&signals, &signal) != 0) {
  }
  return signal;
}

int Complain(ExitCode code, std::string_view line) {
  std::fprintf(stderr, "dreamstate-server: %.*s\n", static_cast<int>(line.size()), line.data());
  return code;
}

// A descriptor of 0 to 2 that is closed would be given to the next file opened, and the log written
// into it.
void OpenStandardDescriptors() {
  for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR)) {
    if (fd <= STDERR_FILENO) continue;
    close(fd);
    return;
  }
}

// Each connection is a descriptor, and a listener that ran out of them does not recover.
void RaiseDescriptorLimit() {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

int Main(int argc, const char* const* argv) {
  // What is large goes back to the system when it is freed, models that were replaced above all.
  // By itself the allocator learns from them to keep such blocks, some in each of its arenas.
  mallopt(M_MMAP_THRESHOLD, 128 << 10);
  OpenStandardDescriptors();
  RaiseDescriptorLimit();
  // Before any thread starts: signals wait until somebody asks for them.
  const sigset_t signals = EndingSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);

  const absl::StatusOr<CommandLine> command = ParseCommandLine(argc, argv);
  if (!command.ok()) return Complain(kBadOptions, StdView(command.status().message()));
  if (command->action == CommandLine::Action::kPrint) {
    std::fputs(command->text.c_str(), stdout);
    return kDrained;
  }
  if (const std::string_view problem = kernels::InitialiseIsa(); !problem.empty()) {
    return Complain(kBadOptions, problem);
  }
  const Options& options = command->options;
  ConfigureLog(options.log_level, options.log_format);

  absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
  if (!server.ok()) return Complain(kCannotRun, StdView(server.status().message()));
  spdlog::info("dreamstate-server {} on cpu/{} with {}", DREAMSTATE_VERSION,
               kernels::IsaName(kernels::ActiveIsa()), PrintConfig(options, -1));

  spdlog::info("signal {}: draining for at most {} s", WaitForSignal(signals),
               options.drain_seconds);
  std::thread([&signals] {
    WaitForSignal(signals);
    std::_Exit(kCutOff);
  }).detach();
  if ((*server)->Drain(absl::Seconds(options.drain_seconds))) {
    spdlog::info("drained");
  } else {
    spdlog::warn("calls were still running when the time to drain was over; they were ended");
  }
  return kDrained;
}

}  // namespace
}  // namespace dreamstate::server

int main(int argc, char** argv) { return dreamstate::server::Main(argc, argv); }
