#include "server/inference/harvest_validation.h"

#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/text_input.h"

namespace dreamstate::server {
namespace {

// Of an inline state's message beside its tensors.
constexpr int64_t kMessageOverheadBytes = 4096;

absl::Status CheckLength(std::string_view field, size_t found, int least, int most) {
  if (found >= static_cast<size_t>(least) && found <= static_cast<size_t>(most)) {
    return absl::OkStatus();
  }
  return FieldError(field, StrCat("expected ", least, " to ", most, " bytes, found ", found));
}

absl::Status CheckNumberOfStates(std::string_view field, int64_t found,
                                 const RequestLimits& limits) {
  if (found <= limits.max_states_per_document) return absl::OkStatus();
  return FieldError(field, StrCat("expected at most ", limits.max_states_per_document,
                                  " states a document, found ", found));
}

absl::StatusOr<std::vector<int64_t>> ReadPositions(const v1::Document& document,
                                                   int64_t content_tokens,
                                                   const RequestLimits& limits) {
  std::vector<int64_t> positions;
  switch (document.positions_form_case()) {
    case v1::Document::kPositions: {
      const auto& values = document.positions().values();
      const std::string_view field = "document.positions.values";
      if (values.empty()) return FieldError(field, "expected at least one position, found none");
      DS_RETURN_IF_ERROR(CheckNumberOfStates(field, values.size(), limits));
      for (int i = 0; i < values.size(); ++i) {
        const int64_t least = i == 0 ? 1 : values[i - 1] + 1;
        if (values[i] < least || values[i] > content_tokens) {
          return FieldError(
              StrCat(field, "[", i, "]"),
              StrCat("expected ", least, " to ", content_tokens, ", found ", values[i]));
        }
        positions.push_back(values[i]);
      }
      return positions;
    }
    case v1::Document::kEveryN: {
      const int64_t n = document.every_n();
      if (n < 1) return FieldError("document.every_n", StrCat("expected 1 or more, found ", n));
      DS_RETURN_IF_ERROR(
          CheckNumberOfStates("document.every_n", (content_tokens + n - 1) / n, limits));
      for (int64_t position = n; position < content_tokens; position += n) {
        positions.push_back(position);
      }
      break;
    }
    case v1::Document::POSITIONS_FORM_NOT_SET:
      break;
  }
  positions.push_back(content_tokens);
  return positions;
}

}  // namespace

absl::StatusOr<HarvestPlan> ValidateHarvestOptions(const v1::HarvestOptions& options,
                                                   const ModelDirectory& models,
                                                   const RequestLimits& limits) {
  HarvestPlan plan;
  absl::StatusOr<std::shared_ptr<const ModelSession>> session = models.Find(options.model());
  if (!session.ok()) return WithFieldPrefix(session.status(), "options");
  plan.session = *std::move(session);
  plan.inline_tensors = options.inline_tensors();
  plan.keep_tokens = options.keep_tokens();
  absl::StatusOr<state::Annotations> annotations = FromMessage(options.annotations());
  if (!annotations.ok()) return WithFieldPrefix(annotations.status(), "options.annotations");
  plan.annotations = *std::move(annotations);
  if (!options.source_state().empty()) {
    DS_ASSIGN_OR_RETURN(plan.source_id,
                        ParseStateName("options.source_state", options.source_state()));
  }
  DS_RETURN_IF_ERROR(CheckLength("options.request_id", options.request_id().size(), 0,
                                 limits.max_request_id_bytes));
  plan.request_id = options.request_id();
  return plan;
}

absl::StatusOr<DocumentTask> ValidateDocument(const v1::Document& document, const HarvestPlan& plan,
                                              const RequestLimits& limits) {
  DocumentTask task;
  DS_RETURN_IF_ERROR(
      CheckLength("document.id", document.id().size(), 1, limits.max_document_id_bytes));
  task.id = document.id();
  DS_RETURN_IF_ERROR(
      CheckLength("document.label", document.label().size(), 0, limits.max_label_bytes));
  task.annotations = plan.annotations;
  if (!document.label().empty()) {
    task.annotations.labels.push_back(document.label());
    if (absl::Status status = state::NormaliseAnnotations(&task.annotations); !status.ok()) {
      return FieldError("document.label", StdView(status.message()));
    }
  }
  DS_ASSIGN_OR_RETURN(task.tokens, ReadTextInput(document.content(), *plan.session,
                                                 limits.max_text_tokens, "document.content"));
  if (task.tokens.empty()) {
    return FieldError("document.content", "expected at least one token, found none");
  }
  const int64_t content_tokens = static_cast<int64_t>(task.tokens.size());
  DS_ASSIGN_OR_RETURN(const std::vector<int64_t> positions,
                      ReadPositions(document, content_tokens, limits));
  task.append_separator = document.append_separator();
  if (task.append_separator) task.tokens.push_back(plan.session->separator_token);
  for (const int64_t position : positions) {
    const bool with_separator = task.append_separator && position == content_tokens;
    task.marks.push_back({position, position + (with_separator ? 1 : 0)});
  }
  if (plan.inline_tensors) {
    const rwkv::Config& config = plan.session->weights->config;
    const int64_t bytes = config.state_bytes() + int64_t{config.width} * int64_t{sizeof(float)} +
                          kMessageOverheadBytes + static_cast<int64_t>(document.id().size());
    if (bytes > limits.max_message_bytes) {
      return QuotaError("message bytes",
                        StrCat("a state sent inline takes ", bytes, " bytes, a message holds ",
                               limits.max_message_bytes),
                        {});
    }
  }
  return task;
}

}  // namespace dreamstate::server
