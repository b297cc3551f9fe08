#include "client/cli/session.h"

#include <utility>

#include "absl/time/clock.h"
#include "client/cli/exit_codes.h"

namespace dreamstate::cli {

absl::Status Session::Run() {
  output_.Configure(global_.output);
  return action_ ? action_(*this) : absl::OkStatus();
}

absl::StatusOr<client::Client*> Session::Connect() {
  if (!client_) {
    absl::StatusOr<std::unique_ptr<client::Client>> created =
        client::Client::Create({.address = global_.server});
    if (!created.ok()) return UsageError(created.status().message());
    client_ = *std::move(created);
  }
  return client_.get();
}

client::CallOptions Session::Call() {
  return {.deadline = absl::Now() + global_.timeout, .cancellation = interrupts_.cancellation()};
}

}  // namespace dreamstate::cli
