// What one served version of a model offers to requests, and how requests find it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "core/rwkv/weights.h"
#include "core/text/tokenizer.h"
#include "server/inference/scheduler.h"
#include "server/inference/version_end.h"

namespace dreamstate::server {

struct StateDit;

// Immutable but for `end`. A request holds it from its first look until its end, so it finishes on
// the version that it began with. Versions of one backbone share weights and scheduler.
struct ModelSession {
  std::string model;  // without "models/"
  int64_t version = 0;
  std::shared_ptr<const rwkv::Weights> weights;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  int32_t end_token = 0;
  int32_t separator_token = 0;
  std::shared_ptr<Scheduler> scheduler;
  std::shared_ptr<const StateDit> state_dit;  // null: the bundle has none
  // Told to what still works on the version when others have waited long enough for its place.
  std::shared_ptr<VersionEnd> end = std::make_shared<VersionEnd>();

  // "models/x", "models/x/versions/3".
  std::string ModelName() const { return absl::StrCat("models/", model); }
  std::string VersionName() const { return absl::StrCat("models/", model, "/versions/", version); }
};

// Finds what serves now. Thread-safe, never blocks.
class ModelDirectory {
 public:
  virtual ~ModelDirectory() = default;
  // `name` is a request's field `model`: "models/x", or empty when there is exactly one.
  // INVALID_ARGUMENT (field "model") for a malformed name or an empty one among several models,
  // NOT_FOUND, UNAVAILABLE while no version of it serves.
  virtual absl::StatusOr<std::shared_ptr<const ModelSession>> Find(std::string_view name) const = 0;
  // The version of the same model that takes calls for states of this backbone: the one that serves
  // or one that is kept for them. Null when there is none.
  virtual std::shared_ptr<const ModelSession> FindBackbone(const std::string& /*model*/,
                                                           std::string_view /*fingerprint*/) const {
    return nullptr;
  }
};

}  // namespace dreamstate::server
