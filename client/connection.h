// What a Client's methods share. For the library's own files.
#pragma once

#include <memory>

#include "client/client.h"
#include "dreamstate/v1/decode_service.grpc.pb.h"
#include "dreamstate/v1/generation_service.grpc.pb.h"
#include "dreamstate/v1/model_service.grpc.pb.h"
#include "dreamstate/v1/state_service.grpc.pb.h"
#include "grpcpp/channel.h"

namespace dreamstate::client {

struct Client::Connection {
  Connection(const std::shared_ptr<grpc::Channel>& channel, RetryPolicy retry_policy)
      : retry(retry_policy),
        models(channel),
        states(channel),
        decode(channel),
        generation(channel) {}

  const RetryPolicy retry;
  v1::ModelService::Stub models;
  v1::StateService::Stub states;
  v1::DecodeService::Stub decode;
  v1::GenerationService::Stub generation;
};

}  // namespace dreamstate::client
