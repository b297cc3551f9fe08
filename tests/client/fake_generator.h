// The fake server's GenerationService: makes states of no content and remembers what was asked.
#pragma once

#include <string>

#include "dreamstate/v1/generation_service.grpc.pb.h"
#include "google/protobuf/util/json_util.h"
#include "tests/client/fake_server.h"

namespace dreamstate::client {

struct FakeServer::Generator : v1::GenerationService::Service {
  explicit Generator(FakeServer& server) : fake(server) {}

  // Tells two steps, then each state; with a choice 1.5 bits per byte against 2, and with strict
  // one rejected draw.
  grpc::Status GenerateStates(grpc::ServerContext* context,
                              const v1::GenerateStatesRequest* request,
                              grpc::ServerWriter<v1::GenerateStatesResponse>* writer) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    bool hang;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.generations_.push_back(*request);
      hang = fake.hang_after_ >= 0;
    }
    v1::GenerateStatesResponse message;
    message.mutable_start()->set_seed(request->options().has_seed() ? request->options().seed()
                                                                    : 77);
    writer->Write(message);
    message.mutable_progress()->set_step(1);
    message.mutable_progress()->set_steps(2);
    writer->Write(message);
    if (hang) return fake.Hang(context);
    const int samples = std::max(1, request->samples());
    for (int i = 0; i < samples; ++i) {
      message.Clear();
      v1::GeneratedState* const made = message.mutable_state();
      made->set_sample(request->first_sample() + i);
      *made->mutable_state() = Made("generate", *request, request->annotations());
      if (request->has_best_of()) {
        made->set_best_bits_per_byte(1.5);
        made->set_worst_bits_per_byte(2);
      }
      v1::StateSafety::Check* const check = made->mutable_safety()->add_checks();
      made->mutable_safety()->set_passed(request->strict());
      check->set_name("energy");
      check->set_passed(request->strict());
      check->set_value(0.5);
      check->set_most(0.25);
      check->set_layer(-1);
      if (request->strict()) made->set_rejected(1);
      writer->Write(message);
    }
    message.mutable_summary()->set_states(samples);
    writer->Write(message);
    return grpc::Status::OK;
  }

  grpc::Status EditState(grpc::ServerContext*, const v1::EditStateRequest* request,
                         v1::EditStateResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.edits_.push_back(*request);
    }
    *response->mutable_state() = Made("edit", *request, request->annotations());
    response->set_relative_norm(0.9);
    response->set_relative_change(0.25);
    response->set_energy_before(0.2);
    response->set_energy_after(0.1);
    if (request->has_probe()) {
      response->set_probe_bits_per_byte_before(2);
      response->set_probe_bits_per_byte_after(1.75);
    }
    return grpc::Status::OK;
  }

  // A stored state whose lineage holds its request, as the server's does.
  v1::State Made(const std::string& operation, const google::protobuf::Message& request,
                 const v1::Annotations& annotations) {
    v1::State state = fake.Store(operation, annotations, 0);
    std::string json;
    (void)google::protobuf::util::MessageToJsonString(request, &json);
    (void)google::protobuf::util::JsonStringToMessage("{\"request\":" + json + "}",
                                                      state.mutable_lineage()->mutable_arguments());
    fake.AddState(state);
    return state;
  }

  FakeServer& fake;
};

}  // namespace dreamstate::client
