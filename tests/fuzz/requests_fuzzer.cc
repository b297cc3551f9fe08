// Any message as a request: an error that names a field, or a task that holds nothing unchecked.
// The first byte of an input chooses the message, the rest is the message.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "dreamstate/v1/decode_service.pb.h"
#include "dreamstate/v1/state_service.pb.h"
#include "server/inference/decode_validation.h"
#include "server/inference/errors.h"
#include "server/inference/harvest_validation.h"
#include "server/inference/state_query.h"
#include "server/inference/upload_validation.h"
#include "tests/fuzz/message_mutator.h"
#include "tests/server/inference/serving_fixture.h"

namespace dreamstate::server {
namespace {

void Check(bool held) {
  if (!held) std::abort();
}

// What callers may get from a validator; anything else is our bug.
void CheckError(const absl::Status& status) {
  const bool expected = absl::IsInvalidArgument(status) || absl::IsNotFound(status) ||
                        absl::IsFailedPrecondition(status) || absl::IsResourceExhausted(status);
  Check(expected && !status.message().empty());
  (void)ToGrpcStatus(status);
}

void CheckTokens(const std::vector<int32_t>& tokens, const RequestLimits& limits, int vocab) {
  Check(static_cast<int64_t>(tokens.size()) <= limits.max_text_tokens + 1);
  for (const int32_t token : tokens) Check(token >= 0 && token < vocab);
}

struct Target {
  Serving serving;
  RequestLimits limits;
  int vocab = serving.session->weights->config.vocab;

  void Run(const v1::DecodeRequest& request) {
    const absl::StatusOr<DecodeTask> task = ValidateDecode(request, serving.session, limits);
    if (!task.ok()) return CheckError(task.status());
    CheckTokens(task->prompt, limits, vocab);
    Check(task->branches >= 1 && task->branches <= limits.max_branches);
    Check(task->max_tokens >= 1 && task->max_tokens <= limits.max_generated_tokens);
    Check(task->source.record == nullptr || task->source.record->state.Validate().ok());
    Check(rwkv::ValidateSampling(task->sampling, vocab).ok());
  }
  void Run(const v1::ScoreRequest& request) {
    const absl::StatusOr<ScoreTask> task = ValidateScore(request, serving.session, limits);
    if (!task.ok()) return CheckError(task.status());
    CheckTokens(task->context, limits, vocab);
    CheckTokens(task->target, limits, vocab);
    Check(!task->target.empty());
  }
  void Run(const v1::HarvestStatesRequest& request) {
    HarvestPlan plan;
    plan.session = serving.session;
    if (request.has_options()) {
      const absl::StatusOr<HarvestPlan> made =
          ValidateHarvestOptions(request.options(), serving, limits);
      if (!made.ok()) return CheckError(made.status());
      plan = *made;
    }
    const absl::StatusOr<DocumentTask> task = ValidateDocument(request.document(), plan, limits);
    if (!task.ok()) return CheckError(task.status());
    CheckTokens(task->tokens, limits, vocab);
    int64_t last = 0;
    for (const DocumentTask::Mark& mark : task->marks) {
      Check(mark.position > last && mark.tokens <= static_cast<int64_t>(task->tokens.size()));
      last = mark.position;
    }
  }
  void Run(const v1::UploadOptions& options) {
    const absl::StatusOr<UploadPlan> plan = ValidateUploadOptions(options, serving, limits);
    if (!plan.ok()) return CheckError(plan.status());
    Check(plan->token_count >= 0 && plan->most_bytes > 0);
    Check(state::CheckLayoutOptions(plan->layout).ok());
    // Bytes that are no state of the model, whatever the options say.
    const absl::StatusOr<state::Record> record = RecordOfUpload(*plan, "no state", "");
    Check(!record.ok());
    CheckError(record.status());
  }
  template <typename Request>
  void RunQuery(const Request& request) {
    const absl::StatusOr<state::ListQuery> query = ParseQuery(request);
    if (!query.ok()) return CheckError(query.status());
    Check(query->page_size >= 1 && query->page_size <= 1000 && query->labels.size() <= 64);
  }
  void Run(const v1::DeleteStatesRequest& request) { RunQuery(request); }
  void Run(const v1::ListStatesRequest& request) { RunQuery(request); }
};

std::unique_ptr<google::protobuf::Message> MakeMessage(uint8_t kind) {
  switch (kind % 6) {
    case 0:
      return std::make_unique<v1::DecodeRequest>();
    case 1:
      return std::make_unique<v1::ScoreRequest>();
    case 2:
      return std::make_unique<v1::UploadOptions>();
    case 3:
      return std::make_unique<v1::DeleteStatesRequest>();
    case 4:
      return std::make_unique<v1::ListStatesRequest>();
    default:
      return std::make_unique<v1::HarvestStatesRequest>();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Target& target = *new Target;
  if (size == 0) return 0;
  const std::unique_ptr<google::protobuf::Message> message = MakeMessage(data[0]);
  if (!message->ParseFromArray(data + 1, static_cast<int>(size - 1))) return 0;
  if (const auto* decode = dynamic_cast<const v1::DecodeRequest*>(message.get())) {
    target.Run(*decode);
  } else if (const auto* score = dynamic_cast<const v1::ScoreRequest*>(message.get())) {
    target.Run(*score);
  } else if (const auto* upload = dynamic_cast<const v1::UploadOptions*>(message.get())) {
    target.Run(*upload);
  } else if (const auto* query = dynamic_cast<const v1::DeleteStatesRequest*>(message.get())) {
    target.Run(*query);
  } else if (const auto* list = dynamic_cast<const v1::ListStatesRequest*>(message.get())) {
    target.Run(*list);
  } else {
    target.Run(dynamic_cast<const v1::HarvestStatesRequest&>(*message));
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  std::minstd_rand random(seed);
  const uint8_t kind = size == 0 || random() % 16 == 0 ? static_cast<uint8_t>(random()) : data[0];
  const std::unique_ptr<google::protobuf::Message> message = MakeMessage(kind);
  // A message of another kind may not parse: then the empty one is changed.
  if (size > 1 && !message->ParseFromArray(data + 1, static_cast<int>(size - 1))) message->Clear();
  const unsigned changes = 1 + random() % 4;
  for (unsigned i = 0; i < changes; ++i) fuzz::MutateMessage(message.get(), random);
  const std::string bytes = message->SerializeAsString();
  if (bytes.size() + 1 > max_size) return size;
  data[0] = kind;
  std::memcpy(data + 1, bytes.data(), bytes.size());
  return bytes.size() + 1;
}

}  // namespace dreamstate::server
