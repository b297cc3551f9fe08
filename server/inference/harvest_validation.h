// Turns the messages of a harvest stream into tasks that hold nothing unchecked. INVALID_ARGUMENT
// with the path of the field at fault, from the stream's message down
// ("document.positions.values[1]").
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/state/store.h"
#include "dreamstate/v1/state_service.pb.h"
#include "server/inference/model_session.h"
#include "server/inference/request_limits.h"
#include "server/inference/source.h"

namespace dreamstate::server {

// What holds for all documents of a stream.
struct HarvestPlan {
  std::shared_ptr<const ModelSession> session;
  std::string source_id;  // empty = the empty state
  Source source;          // fetched after validation
  bool inline_tensors = false;
  bool keep_tokens = false;
  state::Annotations annotations;
  std::string request_id;
  // Set where the one document is what a state of another backbone has read.
  struct Migrates {
    std::string id;
    std::string fingerprint;
  };
  std::optional<Migrates> migrates;
};

struct DocumentTask {
  std::string id;
  std::vector<int32_t> tokens;  // of the content, then the separator where it is to be appended
  bool append_separator = false;
  struct Mark {
    int64_t position;  // as the caller counts: tokens of the content
    int64_t tokens;    // of `tokens` that have been read there
  };
  std::vector<Mark> marks;  // ascending, at least one
  state::Annotations annotations;
};

absl::StatusOr<HarvestPlan> ValidateHarvestOptions(const v1::HarvestOptions& options,
                                                   const ModelDirectory& models,
                                                   const RequestLimits& limits);
// RESOURCE_EXHAUSTED when the state is wanted inline but does not fit a message.
absl::StatusOr<DocumentTask> ValidateDocument(const v1::Document& document, const HarvestPlan& plan,
                                              const RequestLimits& limits);

}  // namespace dreamstate::server
