#include "client/retry.h"

#include <algorithm>
#include <cmath>

#include "absl/random/distributions.h"
#include "absl/random/random.h"
#include "absl/time/clock.h"
#include "client/rpc_status.h"
#include "grpcpp/client_context.h"

namespace dreamstate::client {

std::optional<absl::Duration> NextRetry(const RetryPolicy& policy, Repeatable repeatable,
                                        const absl::Status& failure, int attempts_made,
                                        absl::Duration time_left, absl::BitGenRef random) {
  if (attempts_made >= policy.max_attempts) return std::nullopt;
  const std::optional<absl::Duration> asked = RetryDelay(failure);
  const bool refused =
      asked.has_value() && (absl::IsUnavailable(failure) || absl::IsResourceExhausted(failure));
  if (!refused && !(repeatable == Repeatable::kAlways && IsUnreachable(failure)))
    return std::nullopt;
  if (refused && *asked > policy.max_server_delay) return std::nullopt;

  const double grown = std::pow(policy.growth, std::max(attempts_made - 1, 0));
  const absl::Duration own = std::min(policy.first_delay * grown, policy.max_delay);
  const double drawn = policy.jitter > 0 ? absl::Uniform(random, 0.0, policy.jitter) : 0.0;
  // Never earlier than the server asked; our own delays spread downwards.
  const absl::Duration delay = refused ? std::max(*asked, own) * (1 + drawn) : own * (1 - drawn);
  if (delay >= time_left) return std::nullopt;
  return delay;
}

absl::Status RunWithRetries(const RetryPolicy& policy, Repeatable repeatable,
                            const CallOptions& options, const Attempt& attempt) {
  absl::BitGen random;
  Cancellation never;
  Cancellation& cancellation = options.cancellation ? *options.cancellation : never;
  for (int attempts_made = 1;; ++attempts_made) {
    if (cancellation.cancelled()) return absl::CancelledError("");
    bool begun = false;
    absl::Status status;
    {
      grpc::ClientContext context;
      if (options.deadline != absl::InfiniteFuture())
        context.set_deadline(absl::ToChronoTime(options.deadline));
      const Cancellation::Attachment attachment(options.cancellation.get(), &context);
      status = attempt(context, &begun);
    }
    if (status.ok()) return status;
    // A call that was ended by us may come back with any code.
    if (cancellation.cancelled()) return absl::CancelledError("");
    if (begun) return status;
    const auto delay = NextRetry(policy, repeatable, status, attempts_made,
                                 options.deadline - absl::Now(), random);
    if (!delay) return status;
    if (cancellation.WaitFor(*delay)) return absl::CancelledError("");
  }
}

}  // namespace dreamstate::client
