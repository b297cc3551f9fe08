#include "client/cli/exit_codes.h"

#include "absl/strings/cord.h"
#include "client/rpc_status.h"

namespace dreamstate::cli {
namespace {

// Payloads that tell our own errors from a server's.
constexpr absl::string_view kUsageMark = "dreamstate.cli/usage";
constexpr absl::string_view kPartFailedMark = "dreamstate.cli/part_failed";

}  // namespace

absl::Status UsageError(absl::string_view message) {
  absl::Status status = absl::InvalidArgumentError(message);
  status.SetPayload(kUsageMark, absl::Cord());
  return status;
}

bool IsUsageError(const absl::Status& status) { return status.GetPayload(kUsageMark).has_value(); }

absl::Status PartFailedError(absl::string_view message) {
  absl::Status status = absl::UnknownError(message);
  status.SetPayload(kPartFailedMark, absl::Cord());
  return status;
}

bool IsPartFailedError(const absl::Status& status) {
  return status.GetPayload(kPartFailedMark).has_value();
}

ExitCode ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (IsUsageError(status)) return kExitUsage;
  if (absl::IsCancelled(status)) return kExitInterrupted;
  if (client::IsUnreachable(status)) return kExitUnreachable;
  return kExitRefused;
}

}  // namespace dreamstate::cli
