// Bounds how many calls of one kind run at once, or how much they hold together. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "core/base/status.h"
#include "core/base/strings.h"

namespace dreamstate::server {

class Places {
 public:
  // Given back when it dies, which may be after the places themselves.
  using Place = std::shared_ptr<void>;

  // `subject` says in errors what there are too many of: "state uploads".
  Places(std::string subject, int64_t most) : subject_(std::move(subject)), most_(most) {}

  // RESOURCE_EXHAUSTED when so many (>= 1) are not left.
  absl::StatusOr<Place> Take(int64_t count = 1) {
    if (taken_->fetch_add(count) > most_ - count) {
      taken_->fetch_sub(count);
      return QuotaError(subject_, StrCat("at most ", most_, " at once"), absl::Seconds(1));
    }
    return Place(nullptr, [taken = taken_, count](void*) { taken->fetch_sub(count); });
  }

 private:
  const std::string subject_;
  const int64_t most_;
  const std::shared_ptr<std::atomic<int64_t>> taken_ = std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace dreamstate::server
