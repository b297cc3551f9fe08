#include "tests/platform/rpc_side.h"

#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <string>

#include "dreamstate/v1/model_service.grpc.pb.h"

namespace dreamstate::platform {
namespace {

using ::google::protobuf::util::MessageDifferencer;
namespace v1 = ::dreamstate::v1;

v1::ListModelsResponse ManyModels(int count) {
  v1::ListModelsResponse answer;
  for (int i = 0; i < count; ++i) {
    v1::Model* model = answer.add_models();
    model->set_name("models/model-" + std::to_string(i));
    model->set_backbone_fingerprint(std::string(64, static_cast<char>('a' + i % 6)));
    model->set_tokenizer(i % 2 == 0 ? "byte" : "world");
    model->set_state_bytes(int64_t{i} << 33);
    model->mutable_backbone()->set_layers(i);
    model->mutable_backbone()->set_vocab_size(65536);
  }
  return answer;
}

class FixedModels final : public v1::ModelService::Service {
 public:
  explicit FixedModels(const v1::ListModelsResponse& answer) : answer_(answer) {}
  grpc::Status ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                          v1::ListModelsResponse* response) override {
    *response = answer_;
    return grpc::Status::OK;
  }

 private:
  const v1::ListModelsResponse& answer_;
};

}  // namespace

struct RpcSide::Parts {
  explicit Parts(int models) : answer(ManyModels(models)), service(answer) {}
  v1::ListModelsResponse answer;
  FixedModels service;
  std::unique_ptr<grpc::Server> server;
  std::unique_ptr<v1::ModelService::Stub> stub;
};

RpcSide::RpcSide(int models) : parts_(std::make_unique<Parts>(models)) {
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&parts_->service);
  parts_->server = builder.BuildAndStart();
  parts_->stub = v1::ModelService::NewStub(
      grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
}

RpcSide::~RpcSide() {
  if (parts_->server != nullptr) parts_->server->Shutdown();
}

size_t RpcSide::answer_bytes() const { return parts_->answer.ByteSizeLong(); }

std::string RpcSide::CallAndCompare() const {
  if (parts_->server == nullptr) return "the server did not start";
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  v1::ListModelsResponse received;
  const grpc::Status status =
      parts_->stub->ListModels(&context, v1::ListModelsRequest(), &received);
  if (!status.ok()) return status.error_message();
  std::string difference;
  MessageDifferencer differencer;
  differencer.ReportDifferencesToString(&difference);
  return differencer.Compare(parts_->answer, received) ? "" : "differs: " + difference;
}

std::string RoundTripMessages() {
  const v1::ListModelsResponse sent = ManyModels(50);
  v1::ListModelsResponse received;
  if (!received.ParseFromString(sent.SerializeAsString()) ||
      !MessageDifferencer::Equals(sent, received)) {
    return "binary";
  }
  std::string text;
  if (!google::protobuf::TextFormat::PrintToString(sent, &text) ||
      !google::protobuf::TextFormat::ParseFromString(text, &received) ||
      !MessageDifferencer::Equals(sent, received)) {
    return "text";
  }
  std::string json;
  received.Clear();
  if (!google::protobuf::util::MessageToJsonString(sent, &json).ok() ||
      !google::protobuf::util::JsonStringToMessage(json, &received).ok() ||
      !MessageDifferencer::Equals(sent, received)) {
    return "JSON";
  }
  return "";
}

}  // namespace dreamstate::platform
