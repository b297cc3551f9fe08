#include "server/inference/decode_validation.h"

#include <algorithm>
#include <utility>

#include "core/base/random.h"
#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/text_input.h"

namespace dreamstate::server {
namespace {

// `found`, or `unset` when it is 0; both within 1 .. `most`.
absl::StatusOr<int64_t> Count(std::string_view field, int64_t found, int64_t unset, int64_t most) {
  if (found == 0) return std::min(unset, most);
  if (found >= 1 && found <= most) return found;
  return FieldError(field, StrCat("expected 1 to ", most, ", or 0 for ", std::min(unset, most),
                                  "; found ", found));
}

template <typename Task>
absl::Status ReadSource(const v1::Source& message, Task* task) {
  switch (message.from_case()) {
    case v1::Source::kState: {
      DS_ASSIGN_OR_RETURN(task->source_id, ParseStateName("source.state", message.state()));
      return absl::OkStatus();
    }
    case v1::Source::kTensors: {
      absl::StatusOr<state::Record> record = FromTensorsMessage(message.tensors());
      if (!record.ok()) return WithFieldPrefix(record.status(), "source.tensors");
      DS_RETURN_IF_ERROR(CheckBackbone(*record, *task->session, "source.tensors"));
      task->source.record = std::make_shared<const state::Record>(*std::move(record));
      return absl::OkStatus();
    }
    case v1::Source::FROM_NOT_SET:
      break;
  }
  return absl::OkStatus();
}

absl::StatusOr<rwkv::SamplingOptions> ReadSampling(const v1::Sampling& message, int vocab,
                                                   const RequestLimits& limits) {
  rwkv::SamplingOptions options;
  if (message.has_temperature()) options.temperature = message.temperature();
  options.top_k = message.top_k();
  if (message.has_top_p()) options.top_p = message.top_p();
  options.min_p = message.min_p();
  options.presence_penalty = message.presence_penalty();
  options.frequency_penalty = message.frequency_penalty();
  if (message.has_penalty_decay()) options.penalty_decay = message.penalty_decay();
  options.seed = message.has_seed() ? message.seed() : EntropyBits();
  if (message.logit_bias_size() > limits.max_logit_bias) {
    return FieldError("sampling.logit_bias", StrCat("expected at most ", limits.max_logit_bias,
                                                    " entries, found ", message.logit_bias_size()));
  }
  for (const v1::Sampling::LogitBias& entry : message.logit_bias()) {
    options.logit_bias.emplace_back(entry.token_id(), entry.bias());
  }
  DS_RETURN_IF_ERROR(WithFieldPrefix(rwkv::ValidateSampling(options, vocab), "sampling"));
  return options;
}

absl::Status ReadStops(const v1::DecodeRequest& request, const RequestLimits& limits,
                       std::vector<std::string>* stop) {
  if (request.stop_size() > limits.max_stop_strings) {
    return FieldError("stop", StrCat("expected at most ", limits.max_stop_strings,
                                     " strings, found ", request.stop_size()));
  }
  for (int i = 0; i < request.stop_size(); ++i) {
    const size_t bytes = request.stop(i).size();
    if (bytes < 1 || bytes > static_cast<size_t>(limits.max_stop_bytes)) {
      return FieldError(StrCat("stop[", i, "]"),
                        StrCat("expected 1 to ", limits.max_stop_bytes, " bytes, found ", bytes));
    }
    stop->push_back(request.stop(i));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::shared_ptr<const ModelSession>> FindSession(const ModelDirectory& models,
                                                                const std::string& model,
                                                                const v1::Source& source) {
  DS_ASSIGN_OR_RETURN(std::shared_ptr<const ModelSession> session, models.Find(model));
  const std::string& fingerprint = source.tensors().backbone_fingerprint();
  if (!source.has_tensors() || fingerprint == session->weights->fingerprint) return session;
  std::shared_ptr<const ModelSession> other = models.FindBackbone(session->model, fingerprint);
  return other != nullptr ? other : session;  // validation says what is wrong with it
}

absl::StatusOr<DecodeTask> ValidateDecode(const v1::DecodeRequest& request,
                                          std::shared_ptr<const ModelSession> session,
                                          const RequestLimits& limits) {
  DecodeTask task;
  task.session = std::move(session);
  DS_RETURN_IF_ERROR(ReadSource(request.source(), &task));
  DS_ASSIGN_OR_RETURN(task.prompt, ReadTextInput(request.prompt(), *task.session,
                                                 limits.max_text_tokens, "prompt"));
  const int64_t most_branches =
      std::min(limits.max_branches, task.session->scheduler->options().slots);
  DS_ASSIGN_OR_RETURN(const int64_t branches,
                      Count("branches", request.branches(), 1, most_branches));
  task.branches = static_cast<int>(branches);
  DS_ASSIGN_OR_RETURN(
      task.sampling, ReadSampling(request.sampling(), task.session->weights->config.vocab, limits));
  DS_ASSIGN_OR_RETURN(task.max_tokens,
                      Count("max_tokens", request.max_tokens(), limits.default_generated_tokens,
                            limits.max_generated_tokens));
  DS_RETURN_IF_ERROR(ReadStops(request, limits, &task.stop));
  if (request.has_top_log_probs()) {
    if (request.top_log_probs() < 0 || request.top_log_probs() > limits.max_top_log_probs) {
      return FieldError("top_log_probs", StrCat("expected 0 to ", limits.max_top_log_probs,
                                                ", found ", request.top_log_probs()));
    }
    task.top_log_probs = request.top_log_probs();
  }
  if (request.has_save_state()) {
    absl::StatusOr<state::Annotations> annotations =
        FromMessage(request.save_state().annotations());
    if (!annotations.ok()) {
      return WithFieldPrefix(annotations.status(), "save_state.annotations");
    }
    const std::string& request_id = request.save_state().request_id();
    if (request_id.size() > static_cast<size_t>(limits.max_request_id_bytes)) {
      return FieldError("save_state.request_id",
                        StrCat("expected at most ", limits.max_request_id_bytes, " bytes, found ",
                               request_id.size()));
    }
    task.save = {.annotations = *std::move(annotations),
                 .keep_tokens = request.save_state().keep_tokens(),
                 .request_id = request_id,
                 .content_sha256 = "",
                 .retry = nullptr};
  }
  return task;
}

absl::StatusOr<ScoreTask> ValidateScore(const v1::ScoreRequest& request,
                                        std::shared_ptr<const ModelSession> session,
                                        const RequestLimits& limits) {
  ScoreTask task;
  task.session = std::move(session);
  DS_RETURN_IF_ERROR(ReadSource(request.source(), &task));
  DS_ASSIGN_OR_RETURN(task.context, ReadTextInput(request.context(), *task.session,
                                                  limits.max_text_tokens, "context"));
  DS_ASSIGN_OR_RETURN(task.target, ReadTextInput(request.target(), *task.session,
                                                 limits.max_text_tokens, "target"));
  if (task.target.empty()) return FieldError("target", "expected at least one token, found none");
  task.per_token = request.per_token();
  return task;
}

}  // namespace dreamstate::server
