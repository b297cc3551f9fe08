#include "tests/benchmarks/serve/calls.h"

#include <algorithm>
#include <array>
#include <utility>

#include "absl/time/clock.h"
#include "core/base/random.h"
#include "core/base/strings.h"
#include "grpcpp/client_context.h"

namespace dreamstate::benchmarks {
namespace {

constexpr char kLabel[] = "serve-benchmark";
constexpr int64_t kHourSeconds = 3600;
// A call that takes longer is an error of its own.
constexpr absl::Duration kCallLimit = absl::Minutes(5);

void Prepare(grpc::ClientContext& context) {
  context.set_deadline(absl::ToChronoTime(absl::Now() + kCallLimit));
  context.set_wait_for_ready(true);
}

absl::Status ToStatus(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace

const std::vector<std::string>& Calls::Kinds() {
  static const auto& kinds =
      *new std::vector<std::string>{"decode", "continue", "score", "harvest", "get"};
  return kinds;
}

absl::Status Calls::Prepare(const std::shared_ptr<grpc::Channel>& channel,
                            const CallOptions& options) {
  options_ = options;
  models_ = v1::ModelService::NewStub(channel);
  state_service_ = v1::StateService::NewStub(channel);
  decode_ = v1::DecodeService::NewStub(channel);
  v1::ListModelsResponse models;
  grpc::ClientContext context;
  benchmarks::Prepare(context);
  const grpc::Status status = models_->ListModels(&context, v1::ListModelsRequest(), &models);
  if (!status.ok()) return ToStatus(status);
  const auto found =
      std::find_if(models.models().begin(), models.models().end(), [&](const v1::Model& model) {
        return options.model.empty() || model.name() == options.model;
      });
  if (found == models.models().end()) return absl::NotFoundError("the server has no such model");
  model_ = *found;
  if (model_.serving_version().empty()) return absl::UnavailableError("no version serves yet");
  for (int i = 0; i < options.states; ++i) {
    // Numbers that no call of the load has.
    if (const Outcome outcome = Harvest(-1 - i); outcome.code != 0) {
      return absl::Status(static_cast<absl::StatusCode>(outcome.code), "cannot store a state");
    }
  }
  v1::ListStatesRequest list;
  list.add_labels(kLabel);
  list.set_page_size(options.states);
  v1::ListStatesResponse states;
  grpc::ClientContext list_context;
  benchmarks::Prepare(list_context);
  const grpc::Status listed = state_service_->ListStates(&list_context, list, &states);
  if (!listed.ok()) return ToStatus(listed);
  for (const v1::State& state : states.states()) states_.push_back(state.name());
  return states_.empty() ? absl::NotFoundError("the states just stored") : absl::OkStatus();
}

void Calls::CleanUp() {
  v1::DeleteStatesRequest request;
  request.add_labels(kLabel);
  v1::DeleteStatesResponse response;
  grpc::ClientContext context;
  benchmarks::Prepare(context);
  (void)state_service_->DeleteStates(&context, request, &response);
}

Outcome Calls::Run(const std::string& kind, int64_t number) const {
  if (kind == "decode") return Decode(number, false);
  if (kind == "continue") return Decode(number, true);
  if (kind == "score") return Score(number);
  if (kind == "harvest") return Harvest(number);
  return GetState(number);
}

v1::TokenIds Calls::Prompt(int64_t number) const {
  v1::TokenIds tokens;
  const auto key = static_cast<uint32_t>(options_.seed);
  for (int i = 0; i < options_.prompt_tokens; ++i) {
    // The first tokens are the same in every call.
    const auto which = static_cast<uint32_t>(i < options_.shared_tokens ? 0 : number + 1);
    const std::array<uint32_t, 4> bits =
        Philox4x32({static_cast<uint32_t>(i), which, 0, 0}, {key, 0});
    const int32_t choices = model_.backbone().vocab_size() - 1;
    tokens.add_ids(1 + static_cast<int32_t>(bits[0] % static_cast<uint32_t>(choices)));
  }
  return tokens;
}

Outcome Calls::Decode(int64_t number, bool from_state) const {
  v1::DecodeRequest request;
  request.set_model(model_.name());
  if (from_state) {
    request.mutable_source()->set_state(states_[static_cast<size_t>(number) % states_.size()]);
  } else {
    *request.mutable_prompt()->mutable_tokens() = Prompt(number);
  }
  request.set_max_tokens(options_.output_tokens);
  request.mutable_sampling()->set_seed(options_.seed + static_cast<uint64_t>(number));
  // Every call generates as much.
  v1::Sampling::LogitBias* bias = request.mutable_sampling()->add_logit_bias();
  bias->set_token_id(model_.end_token());
  bias->set_bias(-100);
  Outcome outcome;
  const absl::Time begin = absl::Now();
  grpc::ClientContext context;
  benchmarks::Prepare(context);
  const auto stream = decode_->Decode(&context, request);
  v1::DecodeResponse response;
  while (stream->Read(&response)) {
    if (response.has_start()) outcome.input_tokens = response.start().prompt_tokens();
    if (!response.has_piece()) continue;
    const absl::Duration now = absl::Now() - begin;
    if (outcome.output_tokens == 0) outcome.first_output = now;
    outcome.last_output = now;
    outcome.output_tokens += response.piece().piece().token_ids_size();
  }
  outcome.code = stream->Finish().error_code();
  return outcome;
}

Outcome Calls::Score(int64_t number) const {
  v1::ScoreRequest request;
  request.set_model(model_.name());
  const v1::TokenIds tokens = Prompt(number);
  for (int i = 0; i < tokens.ids_size(); ++i) {
    v1::TextInput* part =
        i < tokens.ids_size() / 2 ? request.mutable_context() : request.mutable_target();
    part->mutable_tokens()->add_ids(tokens.ids(i));
  }
  v1::ScoreResponse response;
  grpc::ClientContext context;
  benchmarks::Prepare(context);
  Outcome outcome;
  outcome.code = decode_->Score(&context, request, &response).error_code();
  outcome.input_tokens = tokens.ids_size();
  return outcome;
}

Outcome Calls::Harvest(int64_t number) const {
  grpc::ClientContext context;
  benchmarks::Prepare(context);
  const auto stream = state_service_->HarvestStates(&context);
  v1::HarvestStatesRequest request;
  v1::HarvestOptions* options = request.mutable_options();
  options->set_model(model_.name());
  options->mutable_annotations()->add_labels(kLabel);
  options->mutable_annotations()->mutable_time_to_live()->set_seconds(kHourSeconds);
  bool writable = stream->Write(request);
  v1::Document* document = request.mutable_document();
  document->set_id(StrCat("document ", number));
  *document->mutable_content()->mutable_tokens() = Prompt(number);
  writable = writable && stream->Write(request);
  if (writable) stream->WritesDone();
  Outcome outcome;
  v1::HarvestStatesResponse response;
  while (stream->Read(&response)) {
    if (response.has_error()) outcome.code = response.error().code();
    if (response.has_summary()) outcome.input_tokens = response.summary().tokens();
  }
  const grpc::Status status = stream->Finish();
  if (!status.ok()) outcome.code = status.error_code();
  return outcome;
}

Outcome Calls::GetState(int64_t number) const {
  v1::GetStateRequest request;
  request.set_name(states_[static_cast<size_t>(number) % states_.size()]);
  v1::State response;
  grpc::ClientContext context;
  benchmarks::Prepare(context);
  return {.code = state_service_->GetState(&context, request, &response).error_code()};
}

}  // namespace dreamstate::benchmarks
