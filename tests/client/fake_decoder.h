// The fake server's decoding: one, two, three. Part of fake_server.cc.
#pragma once

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "tests/client/fake_server.h"

namespace dreamstate::client {

struct FakeServer::Decoder : v1::DecodeService::Service {
  explicit Decoder(FakeServer& f) : fake(f) {}

  // Branches side by side: "b0 one ", "b1 one ", "b0 two ", …
  grpc::Status Decode(grpc::ServerContext* context, const v1::DecodeRequest* request,
                      grpc::ServerWriter<v1::DecodeResponse>* writer) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    int hang_after;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.decodes_.push_back(*request);
      hang_after = fake.hang_after_;
    }
    int sent = 0;
    const auto send = [&](const v1::DecodeResponse& response) {
      if (hang_after >= 0 && sent >= hang_after) return false;
      ++sent;
      return writer->Write(response);
    };
    const int branches = std::max(request->branches(), 1);
    v1::DecodeResponse response;
    response.mutable_start()->set_model_version("models/alpha/versions/3");
    response.mutable_start()->set_seed(request->sampling().has_seed() ? request->sampling().seed()
                                                                      : 42);
    response.mutable_start()->set_prompt_tokens(SizeOf(request->prompt()));
    response.mutable_start()->set_prefill_seconds(0.5);
    if (!send(response)) return fake.Hang(context);
    for (const char* word : {"one", " two", " three\033[2J"}) {
      for (int branch = 0; branch < branches; ++branch) {
        response.mutable_piece()->set_branch(branch);
        v1::TextPiece* piece = response.mutable_piece()->mutable_piece();
        piece->Clear();
        const std::string prefix =
            branches > 1 && std::string(word) == "one" ? absl::StrCat("b", branch, " ") : "";
        piece->set_text(prefix + word);
        piece->set_raw(piece->text());
        piece->add_token_ids(7);
        if (request->has_top_log_probs()) piece->add_log_probs()->set_log_prob(-0.5);
        if (!send(response)) return fake.Hang(context);
      }
    }
    for (int branch = branches - 1; branch >= 0; --branch) {
      v1::DecodeFinish* finish = response.mutable_finish();
      finish->Clear();
      finish->set_branch(branch);
      finish->set_reason(v1::DecodeFinish::MAX_TOKENS);
      finish->set_generated_tokens(3);
      finish->set_decode_seconds(0.25);
      if (request->has_save_state()) {
        *finish->mutable_saved_state() =
            fake.Store("decode", request->save_state().annotations(), 3);
      }
      if (!send(response)) return fake.Hang(context);
    }
    return grpc::Status::OK;
  }

  // Each as Decode would, one after the other; ids that begin with "bad" are refused.
  grpc::Status DecodeBatch(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::DecodeBatchResponse, v1::DecodeBatchRequest>* stream) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    v1::DecodeBatchRequest request;
    int sent = 0;
    while (stream->Read(&request)) {
      int hang_after;
      {
        const std::lock_guard lock(fake.mutex_);
        fake.batch_.push_back(request);
        hang_after = fake.hang_after_;
      }
      if (hang_after >= 0 && sent >= hang_after) return fake.Hang(context);
      v1::DecodeBatchResponse response;
      response.set_id(request.id());
      if (request.id().rfind("bad", 0) == 0) {
        google::rpc::BadRequest bad;
        bad.add_field_violations()->set_field("max_tokens");
        response.mutable_error()->set_code(grpc::StatusCode::INVALID_ARGUMENT);
        response.mutable_error()->set_message("must be at least 0, found -1");
        response.mutable_error()->add_details()->PackFrom(bad);
      } else {
        v1::DecodeResponse* decode = response.mutable_response();
        decode->mutable_start()->set_model_version("models/alpha/versions/3");
        decode->mutable_start()->set_seed(42);
        stream->Write(response);
        for (const char* word : {"one", " two"}) {
          v1::TextPiece* piece = decode->mutable_piece()->mutable_piece();
          piece->Clear();
          piece->set_text(word);
          piece->set_raw(word);
          piece->add_token_ids(7);
          stream->Write(response);
        }
        decode->mutable_finish()->set_reason(v1::DecodeFinish::MAX_TOKENS);
        decode->mutable_finish()->set_generated_tokens(2);
        if (request.request().has_save_state()) {
          *decode->mutable_finish()->mutable_saved_state() =
              fake.Store("decode", request.request().save_state().annotations(), 2);
        }
        stream->Write(response);
        response.mutable_done();
      }
      stream->Write(response);
      ++sent;
    }
    if (context->IsCancelled()) return fake.Hang(context);
    return grpc::Status::OK;
  }

  // 2 bits a byte from a state, 4 from the empty one.
  grpc::Status Score(grpc::ServerContext* context, const v1::ScoreRequest* request,
                     v1::ScoreResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    bool hang;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.scores_.push_back(*request);
      hang = fake.hang_after_ >= 0;
    }
    if (hang) return fake.Hang(context);
    const int64_t bytes = SizeOf(request->target());
    const double bits = request->source().state().empty() ? 4 : 2;
    response->set_model_version("models/alpha/versions/3");
    response->set_bits_per_byte(bits);
    response->set_total_nats(bits * 0.5 * static_cast<double>(bytes));
    response->set_target_bytes(bytes);
    response->set_target_tokens(bytes);
    for (int64_t i = 0; request->per_token() && i < bytes; ++i) {
      response->add_token_nats(static_cast<float>(bits / 2));
      response->add_token_bytes(request->target().text().substr(static_cast<size_t>(i), 1));
    }
    return grpc::Status::OK;
  }

  FakeServer& fake;
};

}  // namespace dreamstate::client
