// What a client does with a server, in a few words, through the raw stubs.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dreamstate/v1/decode_service.grpc.pb.h"
#include "dreamstate/v1/model_service.grpc.pb.h"
#include "dreamstate/v1/state_service.grpc.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"

namespace dreamstate::testing {

using Health = grpc::health::v1::HealthCheckResponse;

// Fails a call that hangs, long before the test's own limit.
inline void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(100));
}

struct Branch {
  std::string text;
  std::vector<int32_t> tokens;
  std::optional<v1::DecodeFinish> finish;
};

struct Decoded {
  grpc::Status status;
  v1::DecodeStart start;
  std::map<int, Branch> branches;
};

struct Harvested {
  grpc::Status status;
  std::vector<v1::HarvestedState> states;
  std::vector<v1::DocumentError> errors;
  std::optional<v1::HarvestSummary> summary;
};

class Session {
 public:
  explicit Session(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(64 << 20);
    arguments.SetMaxSendMessageSize(64 << 20);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    models = v1::ModelService::NewStub(channel);
    states = v1::StateService::NewStub(channel);
    decode = v1::DecodeService::NewStub(channel);
    health = grpc::health::v1::Health::NewStub(channel);
  }

  // The health of a service; nothing when the server does not know it or does not answer.
  std::optional<Health::ServingStatus> CheckHealth(const std::string& service) {
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    Health response;
    if (!health->Check(&context, request, &response).ok()) return std::nullopt;
    return response.status();
  }
  void WaitServing(const std::string& service = "") {
    while (CheckHealth(service) != Health::SERVING) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }

  Harvested Harvest(const v1::HarvestOptions& options, const std::vector<v1::Document>& documents) {
    grpc::ClientContext context;
    SetDeadline(context);
    auto stream = states->HarvestStates(&context);
    v1::HarvestStatesRequest request;
    *request.mutable_options() = options;
    bool writable = stream->Write(request);
    for (const v1::Document& document : documents) {
      *request.mutable_document() = document;
      writable = writable && stream->Write(request);
    }
    stream->WritesDone();
    Harvested result;
    v1::HarvestStatesResponse response;
    while (stream->Read(&response)) {
      if (response.has_state()) result.states.push_back(response.state());
      if (response.has_error()) result.errors.push_back(response.error());
      if (response.has_summary()) result.summary = response.summary();
    }
    result.status = stream->Finish();
    return result;
  }
  // The name of the state at the end of one document.
  std::string HarvestText(const std::string& text, const std::string& label = "",
                          const std::string& model = "") {
    v1::HarvestOptions options;
    options.set_model(model);
    v1::Document document;
    document.set_id("document");
    document.set_label(label);
    document.mutable_content()->set_text(text);
    const Harvested result = Harvest(options, {document});
    EXPECT_TRUE(result.status.ok()) << result.status.error_message();
    if (result.states.size() != 1) {
      ADD_FAILURE() << "expected one state, found " << result.states.size();
      return "";
    }
    return result.states[0].state().name();
  }

  Decoded Decode(const v1::DecodeRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    auto stream = decode->Decode(&context, request);
    Decoded result;
    v1::DecodeResponse response;
    while (stream->Read(&response)) {
      if (response.has_start()) {
        result.start = response.start();
      } else if (response.has_piece()) {
        Branch& branch = result.branches[response.piece().branch()];
        branch.text += response.piece().piece().text();
        const auto& tokens = response.piece().piece().token_ids();
        branch.tokens.insert(branch.tokens.end(), tokens.begin(), tokens.end());
      } else if (response.has_finish()) {
        result.branches[response.finish().branch()].finish = response.finish();
      }
    }
    result.status = stream->Finish();
    return result;
  }

  std::pair<grpc::Status, v1::ScoreResponse> Score(const v1::ScoreRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ScoreResponse response;
    const grpc::Status status = decode->Score(&context, request, &response);
    return {status, response};
  }

  std::pair<grpc::Status, v1::State> GetState(const std::string& name) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::GetStateRequest request;
    request.set_name(name);
    v1::State state;
    const grpc::Status status = states->GetState(&context, request, &state);
    return {status, state};
  }

  std::pair<grpc::Status, v1::ListStatesResponse> ListStates(const v1::ListStatesRequest& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ListStatesResponse response;
    const grpc::Status status = states->ListStates(&context, request, &response);
    return {status, response};
  }

  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::ModelService::Stub> models;
  std::unique_ptr<v1::StateService::Stub> states;
  std::unique_ptr<v1::DecodeService::Stub> decode;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
};

// A decode that gives the same text each time it runs.
inline v1::DecodeRequest SeededDecode(const std::string& state, int branches, int tokens,
                                      uint64_t seed = 7) {
  v1::DecodeRequest request;
  if (!state.empty()) request.mutable_source()->set_state(state);
  request.set_branches(branches);
  request.set_max_tokens(tokens);
  request.mutable_sampling()->set_seed(seed);
  return request;
}

// The same, and the model never ends the text by itself. `end_token` is the model's.
inline v1::DecodeRequest EndlessDecode(int tokens, int end_token) {
  v1::DecodeRequest request = SeededDecode("", 1, tokens);
  v1::Sampling::LogitBias* bias = request.mutable_sampling()->add_logit_bias();
  bias->set_token_id(end_token);
  bias->set_bias(-100);
  return request;
}

}  // namespace dreamstate::testing
