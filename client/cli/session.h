// What every command works with: the global flags, the connection, the terminal.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/interrupts.h"
#include "client/cli/output.h"
#include "client/client.h"

namespace dreamstate::cli {

// Options that stand before or behind the command's name.
struct GlobalOptions {
  std::string server;
  absl::Duration timeout = absl::InfiniteDuration();
  Output::Options output;
};

class Session {
 public:
  // A command's work, chosen while the command line is parsed and run afterwards.
  using Action = std::function<absl::Status(Session&)>;
  void Choose(Action action) { action_ = std::move(action); }
  // Runs what was chosen; OK when nothing was.
  absl::Status Run();

  GlobalOptions& global() { return global_; }
  Output& output() { return output_; }
  Interrupts& interrupts() { return interrupts_; }

  // Connects on first use. A usage error when the address cannot be one.
  absl::StatusOr<client::Client*> Connect();
  // For one call: --timeout from now on, ended by Ctrl-C.
  client::CallOptions Call();

 private:
  Interrupts interrupts_;  // first: before the connection's threads
  GlobalOptions global_;
  Output output_;
  Action action_;
  std::unique_ptr<client::Client> client_;
};

}  // namespace dreamstate::cli
