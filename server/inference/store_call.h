// Calls of the state store that are counted and timed.
#pragma once

#include <string_view>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "server/inference/metrics.h"

namespace dreamstate::server {

// What `call` () -> absl::Status or absl::StatusOr<...> answers.
template <typename Call>
auto Measured(Metrics& metrics, std::string_view operation, const Call& call) {
  const absl::Time start = absl::Now();
  auto result = call();
  absl::Status status;
  if constexpr (std::is_same_v<decltype(result), absl::Status>) {
    status = result;
  } else {
    status = result.status();
  }
  metrics.OnStoreCall(operation, status, absl::Now() - start);
  return result;
}

}  // namespace dreamstate::server
