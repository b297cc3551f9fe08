// A real gRPC server in this process around the handlers under test, and a client's stubs.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "server/inference/decode_service.h"
#include "server/inference/harvest.h"
#include "tests/server/inference/serving_fixture.h"

namespace dreamstate::server {

// The field paths of a status's BadRequest.
inline std::vector<std::string> FieldsOf(const grpc::Status& status) {
  std::vector<std::string> fields;
  google::rpc::Status details;
  details.ParseFromString(status.error_details());
  for (const google::protobuf::Any& any : details.details()) {
    google::rpc::BadRequest bad_request;
    if (!any.UnpackTo(&bad_request)) continue;
    for (const auto& violation : bad_request.field_violations()) {
      fields.push_back(violation.field());
    }
  }
  return fields;
}

class HarvestOnlyService final : public v1::StateService::CallbackService {
 public:
  explicit HarvestOnlyService(const ServingContext& context) : harvester_(context) {}
  grpc::ServerBidiReactor<v1::HarvestStatesRequest, v1::HarvestStatesResponse>* HarvestStates(
      grpc::CallbackServerContext* context) override {
    return harvester_.Start(context);
  }

 private:
  Harvester harvester_;
};

struct GrpcServing {
  explicit GrpcServing(
      SchedulerOptions options = {},
      const std::function<void(RequestLimits&)>& limit = [](RequestLimits&) {},
      const Clock& clock = Clock::Real())
      : serving(options, clock) {
    limit(serving.context.limits);
    serving.context.streams = &streams;
    decode_service = std::make_unique<DecodeService>(serving.context);
    state_service = std::make_unique<HarvestOnlyService>(serving.context);
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(decode_service.get());
    builder.RegisterService(state_service.get());
    builder.SetMaxReceiveMessageSize(static_cast<int>(serving.context.limits.max_message_bytes) +
                                     65536);
    server = builder.BuildAndStart();
    // A window that does not grow: what a client has not asked for stays with the server.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    channel = grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port),
                                        grpc::InsecureChannelCredentials(), arguments);
    decode = v1::DecodeService::NewStub(channel);
    states = v1::StateService::NewStub(channel);
  }
  ~GrpcServing() {
    serving.store.ReleasePuts();
    serving.session->scheduler->Stop();
    server->Shutdown(std::chrono::system_clock::now());
    server->Wait();
  }

  std::pair<grpc::Status, std::vector<v1::DecodeResponse>> Decode(
      const v1::DecodeRequest& request) {
    grpc::ClientContext context;
    std::vector<v1::DecodeResponse> messages;
    auto reader = decode->Decode(&context, request);
    for (v1::DecodeResponse message; reader->Read(&message);) messages.push_back(message);
    return {reader->Finish(), messages};
  }
  // A decode's answers in a batch.
  struct Batched {
    std::vector<v1::DecodeResponse> messages;
    int ends = 0;
    google::rpc::Status error;  // code 0 when it did not fail
  };
  template <typename Stream>
  static std::pair<grpc::Status, std::map<std::string, Batched>> ReadBatch(Stream& stream) {
    std::map<std::string, Batched> decodes;
    for (v1::DecodeBatchResponse message; stream.Read(&message);) {
      Batched& decode = decodes[message.id()];
      if (decode.ends > 0) ADD_FAILURE() << message.id() << " goes on after its end";
      if (message.has_response()) {
        decode.messages.push_back(message.response());
      } else {
        ++decode.ends;
        decode.error = message.error();
      }
    }
    return {stream.Finish(), decodes};
  }
  std::pair<grpc::Status, std::map<std::string, Batched>> Batch(
      const std::vector<v1::DecodeBatchRequest>& requests) {
    grpc::ClientContext context;
    auto stream = decode->DecodeBatch(&context);
    for (const v1::DecodeBatchRequest& request : requests) {
      if (!stream->Write(request)) break;
    }
    stream->WritesDone();
    return ReadBatch(*stream);
  }
  std::pair<grpc::Status, v1::ScoreResponse> Score(const v1::ScoreRequest& request) {
    grpc::ClientContext context;
    v1::ScoreResponse response;
    const grpc::Status status = decode->Score(&context, request, &response);
    return {status, response};
  }

  struct Harvested {
    grpc::Status status;
    std::map<std::string, std::vector<v1::HarvestedState>> states;
    std::map<std::string, v1::DocumentError> errors;
    v1::HarvestSummary summary;
    int progress = 0;
    bool summary_is_last = false;
  };
  Harvested Harvest(const std::vector<v1::HarvestStatesRequest>& messages) {
    grpc::ClientContext context;
    auto stream = states->HarvestStates(&context);
    for (const v1::HarvestStatesRequest& message : messages) {
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
    return ReadAll(*stream);
  }
  template <typename Stream>
  static Harvested ReadAll(Stream& stream) {
    Harvested result;
    for (v1::HarvestStatesResponse message; stream.Read(&message);) {
      result.summary_is_last = message.has_summary();
      if (message.has_state()) {
        result.states[message.state().document_id()].push_back(message.state());
      } else if (message.has_error()) {
        result.errors[message.error().document_id()] = message.error();
      } else if (message.has_summary()) {
        result.summary = message.summary();
      } else {
        ++result.progress;
      }
    }
    // They come in order of completion.
    for (auto& [id, list] : result.states) {
      std::sort(list.begin(), list.end(),
                [](const auto& a, const auto& b) { return a.position() < b.position(); });
    }
    result.status = stream.Finish();
    return result;
  }

  OpenStreams streams;  // visited when a test says so
  Serving serving;
  std::unique_ptr<DecodeService> decode_service;
  std::unique_ptr<HarvestOnlyService> state_service;
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::DecodeService::Stub> decode;
  std::unique_ptr<v1::StateService::Stub> states;
};

}  // namespace dreamstate::server
