// Bounds how many calls of one kind run at once. Thread-safe.
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
  Places(std::string subject, int most) : subject_(std::move(subject)), most_(most) {}

  // RESOURCE_EXHAUSTED when all are taken.
  absl::StatusOr<Place> Take() {
    if (taken_->fetch_add(1) >= most_) {
      taken_->fetch_sub(1);
      return QuotaError(subject_, StrCat("at most ", most_, " run at once"), absl::Seconds(1));
    }
    return Place(nullptr, [taken = taken_](void*) { taken->fetch_sub(1); });
  }

 private:
  const std::string subject_;
  const int most_;
  const std::shared_ptr<std::atomic<int>> taken_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace dreamstate::server
