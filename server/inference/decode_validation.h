// Turns requests of DecodeService into tasks that hold nothing unchecked. INVALID_ARGUMENT with the
// path of the field at fault; FAILED_PRECONDITION with both fingerprints for an inline state of
// another backbone.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/rwkv/sampler.h"
#include "core/state/store.h"
#include "dreamstate/v1/decode_service.pb.h"
#include "server/inference/model_session.h"
#include "server/inference/request_limits.h"
#include "server/inference/source.h"

namespace dreamstate::server {

class DecodeRetry;

struct DecodeTask {
  std::shared_ptr<const ModelSession> session;
  // Of a stored source, which is yet to be fetched into `source`; empty otherwise.
  std::string source_id;
  Source source;
  std::vector<int32_t> prompt;
  int branches = 1;
  int64_t max_tokens = 0;
  std::vector<std::string> stop;
  std::optional<int> top_log_probs;
  rwkv::SamplingOptions sampling;  // with a seed, the caller's or a drawn one
  struct Save {
    state::Annotations annotations;
    bool keep_tokens = false;
    std::string request_id;
    std::string content_sha256;  // of the request, where there is a request_id
    // With a request_id, once its turn has come.
    std::shared_ptr<DecodeRetry> retry;
  };
  std::optional<Save> save;
};

struct ScoreTask {
  std::shared_ptr<const ModelSession> session;
  std::string source_id;
  Source source;
  std::vector<int32_t> context;
  std::vector<int32_t> target;  // >= 1
  bool per_token = false;
};

// The version that a request runs on: the one that serves, or the live one of the same model whose
// backbone an inline state belongs to. Errors as ModelDirectory::Find.
absl::StatusOr<std::shared_ptr<const ModelSession>> FindSession(const ModelDirectory& models,
                                                                const std::string& model,
                                                                const v1::Source& source);

absl::StatusOr<DecodeTask> ValidateDecode(const v1::DecodeRequest& request,
                                          std::shared_ptr<const ModelSession> session,
                                          const RequestLimits& limits);
absl::StatusOr<ScoreTask> ValidateScore(const v1::ScoreRequest& request,
                                        std::shared_ptr<const ModelSession> session,
                                        const RequestLimits& limits);

}  // namespace dreamstate::server
