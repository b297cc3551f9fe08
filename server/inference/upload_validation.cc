#include "server/inference/upload_validation.h"

#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/record_json.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {
namespace {

constexpr char kFile[] = "the file";
// Of a lineage that comes with a record, as text; our own have less.
constexpr size_t kMaxLineageBytes = size_t{128} << 10;

absl::Status FileError(std::string_view message) { return FieldError("chunk", message); }

absl::Status CheckTokenCount(std::string_view field, int64_t tokens) {
  // Far above any text, and far enough below the type's limit for tokens to be added.
  constexpr int64_t kMaxTokens = int64_t{1} << 53;
  if (tokens >= 0 && tokens <= kMaxTokens) return absl::OkStatus();
  return FieldError(field, StrCat("expected 0 to ", kMaxTokens, ", found ", tokens));
}

absl::Status CheckKeptTokens(const state::Lineage& lineage, int64_t vocab) {
  const std::vector<int32_t>& tokens = lineage.kept_tokens;
  if (tokens.empty()) return absl::OkStatus();
  if (lineage.tokens_read != static_cast<int64_t>(tokens.size()) ||
      lineage.tokens_sha256 != state::TokensSha256(tokens)) {
    return FileError(StrCat(kFile, ": its kept tokens are not those that its lineage tells of"));
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] < 0 || tokens[i] >= vocab) {
      return FileError(StrCat(kFile, ": kept_tokens[", i, "]: expected 0 to ", vocab - 1,
                              ", found ", tokens[i]));
    }
  }
  return absl::OkStatus();
}

// Who made the state, the first time: a record that was uploaded before tells that itself.
nlohmann::json OriginalOf(const state::Record& record) {
  const state::Lineage& lineage = record.lineage;
  if (lineage.operation == "upload") {
    const auto original = lineage.arguments.find("original");
    if (original != lineage.arguments.end() && original->is_object()) return *original;
  }
  return {{"id", record.id},
          {"model", record.model},
          {"created", state::TimeText(record.created)},
          {"lineage",
           {{"operation", lineage.operation},
            {"parents", lineage.parents},
            {"arguments", lineage.arguments},
            {"tokens_sha256", lineage.tokens_sha256},
            {"tokens_read", lineage.tokens_read}}}};
}

// Checks what a record of ours says, and makes it one of this store.
absl::Status AdoptRecord(const UploadPlan& plan, state::Record* record) {
  if (record->fingerprint != plan.fingerprint) {
    return FingerprintError(kFile, plan.fingerprint, record->fingerprint);
  }
  if (record->state.shape != plan.shape) {
    const state::Shape& found = record->state.shape;
    return FileError(StrCat(kFile, ": expected ", plan.shape.layers, " layers, width ",
                            plan.shape.width, ", ", plan.shape.heads, " heads of ",
                            plan.shape.head_size, "; found ", found.layers, ", ", found.width, ", ",
                            found.heads, " of ", found.head_size));
  }
  DS_RETURN_IF_ERROR(CheckTokenCount("chunk", record->token_count));
  if (plan.token_count != 0 && plan.token_count != record->token_count) {
    return FieldError("options.token_count",
                      StrCat("expected none for layout dreamstate, whose file says ",
                             record->token_count, ", found ", plan.token_count));
  }
  return CheckKeptTokens(record->lineage, plan.vocab);
}

}  // namespace

absl::StatusOr<std::optional<state::Layout>> FromMessage(std::string_view field,
                                                         v1::StateLayout layout) {
  switch (layout) {
    case v1::STATE_LAYOUT_UNSPECIFIED:
      return std::optional<state::Layout>();
    case v1::DREAMSTATE:
      return std::optional(state::Layout::kRecord);
    case v1::CANONICAL:
      return std::optional(state::Layout::kCanonical);
    case v1::RWKV_PACKAGE:
      return std::optional(state::Layout::kRwkvPackage);
    case v1::TIME_STATE:
      return std::optional(state::Layout::kTimeState);
    default:
      return FieldError(field, StrCat("no such layout: ", static_cast<int>(layout)));
  }
}

absl::StatusOr<std::optional<tensors::DType>> FromMessage(std::string_view field,
                                                          v1::StateDType dtype) {
  switch (dtype) {
    case v1::STATE_DTYPE_UNSPECIFIED:
      return std::optional<tensors::DType>();
    case v1::FLOAT32:
      return std::optional(tensors::DType::kF32);
    case v1::BFLOAT16:
      return std::optional(tensors::DType::kBF16);
    case v1::FLOAT16:
      return std::optional(tensors::DType::kF16);
    default:
      return FieldError(field, StrCat("no such dtype: ", static_cast<int>(dtype)));
  }
}

absl::StatusOr<UploadPlan> ValidateUploadOptions(const v1::UploadOptions& options,
                                                 const ModelDirectory& models,
                                                 const RequestLimits& limits) {
  const absl::StatusOr<std::shared_ptr<const ModelSession>> session = models.Find(options.model());
  if (!session.ok()) return WithFieldPrefix(session.status(), "options");
  UploadPlan plan;
  plan.model = (*session)->model;
  plan.fingerprint = (*session)->weights->fingerprint;
  plan.shape = state::Shape::Of((*session)->weights->config);
  plan.vocab = (*session)->weights->config.vocab;
  DS_ASSIGN_OR_RETURN(plan.layout.layout, FromMessage("options.layout", options.layout()));
  DS_ASSIGN_OR_RETURN(plan.layout.dtype, FromMessage("options.dtype", options.dtype()));
  plan.layout.transposed = options.transposed();
  DS_RETURN_IF_ERROR(WithFieldPrefix(state::CheckLayoutOptions(plan.layout), "options"));
  absl::StatusOr<state::Annotations> annotations = FromMessage(options.annotations());
  if (!annotations.ok()) return WithFieldPrefix(annotations.status(), "options.annotations");
  plan.annotations = *std::move(annotations);
  DS_RETURN_IF_ERROR(CheckTokenCount("options.token_count", options.token_count()));
  plan.token_count = options.token_count();
  if (options.request_id().size() > static_cast<size_t>(limits.max_request_id_bytes)) {
    return FieldError("options.request_id", StrCat("expected at most ", limits.max_request_id_bytes,
                                                   " bytes, found ", options.request_id().size()));
  }
  plan.request_id = options.request_id();
  // An operation reads at most a prompt and what was generated after it.
  plan.most_bytes = state::MostFileBytes(
      plan.shape, plan.layout, limits.max_text_tokens + int64_t{limits.max_generated_tokens});
  return plan;
}

absl::StatusOr<state::Record> RecordOfUpload(const UploadPlan& plan, std::string_view file,
                                             const std::string& sha256) {
  absl::StatusOr<state::StateFile> read =
      state::ReadStateFile(kFile, file, plan.shape, plan.layout);
  if (!read.ok()) {
    // About an option that does not go with what the file turned out to be, or about the file.
    if (DetailsOf(read.status()).field) return WithFieldPrefix(read.status(), "options");
    return FileError(StdView(read.status().message()));
  }
  state::Record record = std::move(read->record);
  nlohmann::json arguments = {{"layout", state::LayoutName(read->layout)},
                              {"dtype", tensors::DTypeName(read->dtype)},
                              {"transposed", plan.layout.transposed},
                              {"file_sha256", sha256}};
  if (read->layout == state::Layout::kRecord) {
    DS_RETURN_IF_ERROR(AdoptRecord(plan, &record));
    arguments["original"] = OriginalOf(record);
  } else {
    record.token_count = plan.token_count;
  }
  record.model = plan.model;
  record.fingerprint = plan.fingerprint;
  record.lineage.operation = "upload";
  record.lineage.parents.clear();
  record.lineage.arguments = std::move(arguments);
  // What the store would refuse is the file's fault.
  const absl::StatusOr<nlohmann::json> json = state::RecordToJson(record);
  if (!json.ok()) return FileError(StdView(json.status().message()));
  DS_ASSIGN_OR_RETURN(const std::string text, state::JsonToText(*json));
  if (text.size() > kMaxLineageBytes) {
    return FileError(StrCat(kFile, ": its lineage: expected at most ", kMaxLineageBytes,
                            " bytes, found ", text.size()));
  }
  return record;
}

}  // namespace dreamstate::server
