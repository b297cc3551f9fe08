// When a call is tried again.
//
// A call is repeated when the server was busy or away (UNAVAILABLE, or RESOURCE_EXHAUSTED with a
// time to come back), as long as repeating cannot do anything twice: never after the first message
// of a stream arrived, and for calls that change something only when the server said itself that it
// refused. The server's wish (google.rpc.RetryInfo) is a lower bound for the wait; without one the
// wait grows from `first_delay`. Jitter keeps many clients from coming back at once.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "absl/random/bit_gen_ref.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/cancellation.h"

namespace grpc {
class ClientContext;
}

namespace dreamstate::client {

// How one call is made.
struct CallOptions {
  // The whole call, repeats and waits included; also sent to the server.
  absl::Time deadline = absl::InfiniteFuture();
  // Ends the call from another thread; may be null.
  std::shared_ptr<Cancellation> cancellation;
};

struct RetryPolicy {
  int max_attempts = 4;  // the first one included; 1 = never repeat
  absl::Duration first_delay = absl::Milliseconds(100);
  double growth = 2;
  absl::Duration max_delay = absl::Seconds(2);  // of our own choosing
  absl::Duration max_server_delay =
      absl::Seconds(30);  // a server that asks for more gets no repeat
  double jitter = 0.2;    // share of the delay that is drawn
};

enum class Repeatable {
  kAlways,           // reading, and changes with an idempotency key
  kOnlyWhenRefused,  // a change that may have happened when the connection was lost
};

// How long to wait before attempt `attempts_made` + 1, or nothing when there should be none.
// `time_left` is what the deadline leaves; a wait that would not end before it is not begun. Pure,
// but for the draw from `random`.
std::optional<absl::Duration> NextRetry(const RetryPolicy& policy, Repeatable repeatable,
                                        const absl::Status& failure, int attempts_made,
                                        absl::Duration time_left, absl::BitGenRef random);

// One attempt: makes the call with `context` and answers with its outcome. Sets `*begun` once a
// message of a stream arrived.
using Attempt = std::function<absl::Status(grpc::ClientContext& context, bool* begun)>;

// Runs `attempt` until it succeeds, must not be repeated, or the options end it (CANCELLED, or the
// last failure).
absl::Status RunWithRetries(const RetryPolicy& policy, Repeatable repeatable,
                            const CallOptions& options, const Attempt& attempt);

}  // namespace dreamstate::client
