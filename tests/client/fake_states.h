// The fake server's states: names without tensors. Part of fake_server.cc.
#pragma once

#include <algorithm>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "tests/client/fake_server.h"

namespace dreamstate::client {

struct FakeServer::States : v1::StateService::Service {
  explicit States(FakeServer& f) : fake(f) {}

  grpc::Status HarvestStates(grpc::ServerContext* context,
                             grpc::ServerReaderWriter<v1::HarvestStatesResponse,
                                                      v1::HarvestStatesRequest>* stream) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    v1::HarvestStatesRequest request;
    v1::HarvestStatesResponse response;
    v1::HarvestOptions options;
    v1::HarvestSummary summary;
    int sent = 0;
    while (stream->Read(&request)) {
      if (request.has_options()) {
        options = request.options();
        const std::lock_guard lock(fake.mutex_);
        fake.harvests_.push_back(options);
        continue;
      }
      const v1::Document& document = request.document();
      bool refused, hang;
      {
        std::unique_lock lock(fake.mutex_);
        fake.documents_.push_back(document);
        fake.changed_.notify_all();
        const auto paused = [&] {
          return fake.pause_after_ >= 0 &&
                 static_cast<int>(fake.documents_.size()) >= fake.pause_after_ && !fake.stopping_;
        };
        fake.changed_.wait(lock, [&] { return !paused(); });
        refused = document.id() == fake.refused_document_;
        hang = fake.hang_after_ >= 0 && sent >= fake.hang_after_;
      }
      if (hang) return fake.Hang(context);
      ++sent;
      summary.set_documents(summary.documents() + 1);
      if (refused) {
        summary.set_documents(summary.documents() - 1);
        summary.set_errors(summary.errors() + 1);
        response.mutable_error()->set_document_id(document.id());
        response.mutable_error()->set_code(grpc::StatusCode::INVALID_ARGUMENT);
        response.mutable_error()->set_message("holds the end token");
        stream->Write(response);
        continue;
      }
      const int64_t tokens = SizeOf(document.content());
      summary.set_tokens(summary.tokens() + tokens);
      google::protobuf::RepeatedField<int64_t> positions = document.positions().values();
      if (positions.empty()) positions.Add(tokens);
      for (const int64_t position : positions) {
        response.mutable_state()->set_document_id(document.id());
        response.mutable_state()->set_position(position);
        *response.mutable_state()->mutable_state() =
            fake.Store("harvest", options.annotations(), position);
        summary.set_states(summary.states() + 1);
        stream->Write(response);
      }
      response.mutable_progress()->set_documents_done(summary.documents());
      response.mutable_progress()->set_documents_received(summary.documents());
      response.mutable_progress()->set_tokens_done(summary.tokens());
      stream->Write(response);
    }
    if (context->IsCancelled()) return fake.Hang(context);
    summary.set_seconds(0.25);
    *response.mutable_summary() = summary;
    stream->Write(response);
    return grpc::Status::OK;
  }

  grpc::Status Find(const std::string& name, v1::State* state) {
    const std::lock_guard lock(fake.mutex_);
    const auto found = fake.states_.find(name);
    if (found == fake.states_.end()) {
      google::rpc::ResourceInfo info;
      info.set_resource_type("state");
      info.set_resource_name(name);
      return ErrorWith(grpc::StatusCode::NOT_FOUND, "no such state", info);
    }
    *state = found->second;
    return grpc::Status::OK;
  }

  grpc::Status GetState(grpc::ServerContext*, const v1::GetStateRequest* request,
                        v1::State* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    return Find(request->name(), response);
  }

  grpc::Status ListStates(grpc::ServerContext*, const v1::ListStatesRequest* request,
                          v1::ListStatesResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    const std::lock_guard lock(fake.mutex_);
    fake.lists_.push_back(*request);
    // Pages of one.
    auto at = request->page_token().empty() ? fake.states_.begin()
                                            : fake.states_.find(request->page_token());
    if (at == fake.states_.end()) return grpc::Status::OK;
    *response->add_states() = at->second;
    if (++at != fake.states_.end()) response->set_next_page_token(at->first);
    return grpc::Status::OK;
  }

  grpc::Status UpdateState(grpc::ServerContext*, const v1::UpdateStateRequest* request,
                           v1::State* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    if (grpc::Status status = Find(request->name(), response); !status.ok()) return status;
    const std::lock_guard lock(fake.mutex_);
    fake.updates_.push_back(*request);
    v1::State& state = fake.states_[request->name()];
    for (const std::string& path : request->update_mask().paths()) {
      if (path == "labels") *state.mutable_labels() = request->annotations().labels();
      if (path == "time_to_live") state.clear_expires();
    }
    *response = state;
    return grpc::Status::OK;
  }

  grpc::Status DeleteState(grpc::ServerContext*, const v1::DeleteStateRequest* request,
                           v1::DeleteStateResponse*) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    v1::State state;
    if (grpc::Status status = Find(request->name(), &state); !status.ok()) return status;
    const std::lock_guard lock(fake.mutex_);
    fake.states_.erase(request->name());
    return grpc::Status::OK;
  }

  // Filters by one label only.
  grpc::Status DeleteStates(grpc::ServerContext*, const v1::DeleteStatesRequest* request,
                            v1::DeleteStatesResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    const std::lock_guard lock(fake.mutex_);
    fake.deletes_.push_back(*request);
    for (auto at = fake.states_.begin(); at != fake.states_.end();) {
      const auto& labels = at->second.labels();
      const bool fits = request->labels().empty() ||
                        std::find(labels.begin(), labels.end(), request->labels(0)) != labels.end();
      if (fits) {
        response->set_states(response->states() + 1);
        response->set_bytes(response->bytes() + at->second.bytes());
        response->add_sample(at->first);
      }
      at = fits && !request->dry_run() ? fake.states_.erase(at) : std::next(at);
    }
    return grpc::Status::OK;
  }

  grpc::Status UploadState(grpc::ServerContext* context,
                           grpc::ServerReader<v1::UploadStateRequest>* reader,
                           v1::State* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    Upload upload;
    v1::UploadStateRequest request;
    while (reader->Read(&request)) {
      if (request.has_options()) {
        upload.options = request.options();
      } else {
        upload.bytes += request.chunk();
        upload.chunks.push_back(request.chunk().size());
      }
    }
    if (context->IsCancelled()) return fake.Hang(context);
    {
      const std::lock_guard lock(fake.mutex_);
      fake.uploads_.push_back(upload);
    }
    *response = fake.Store("upload", upload.options.annotations(), upload.options.token_count());
    return grpc::Status::OK;
  }

  grpc::Status DownloadState(grpc::ServerContext* context, const v1::DownloadStateRequest* request,
                             grpc::ServerWriter<v1::DownloadStateResponse>* writer) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    v1::DownloadStateResponse response;
    v1::DownloadHeader* header = response.mutable_header();
    if (grpc::Status status = Find(request->name(), header->mutable_state()); !status.ok())
      return status;
    std::string bytes;
    int hang_after;
    {
      const std::lock_guard lock(fake.mutex_);
      fake.downloads_.push_back(*request);
      header->set_sha256(fake.file_sha256_);
      header->set_file_name(fake.file_name_);
      bytes = fake.file_;
      hang_after = fake.hang_after_;
    }
    header->set_bytes(static_cast<int64_t>(bytes.size()));
    writer->Write(response);
    constexpr size_t kChunk = 1 << 20;
    int sent = 1;
    for (size_t at = 0; at < bytes.size(); at += kChunk) {
      if (hang_after >= 0 && sent++ >= hang_after) return fake.Hang(context);
      response.set_chunk(bytes.substr(at, kChunk));
      writer->Write(response);
    }
    return grpc::Status::OK;
  }

  // Layer l, head h: rms l + h / 100.
  grpc::Status DescribeState(grpc::ServerContext*, const v1::DescribeStateRequest* request,
                             v1::DescribeStateResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    if (grpc::Status status = Find(request->name(), response->mutable_state()); !status.ok())
      return status;
    const v1::StateShape& shape = response->state().shape();
    for (int layer = 0; layer < shape.layers(); ++layer) {
      for (int head = 0; head < shape.heads(); ++head) {
        v1::HeadGeometry* geometry = response->add_heads();
        geometry->set_rms(static_cast<float>(layer) + static_cast<float>(head) / 100);
        geometry->set_spectral_norm(10 * geometry->rms());
        geometry->set_stable_rank(1 + static_cast<float>(head));
      }
      response->add_time_mix_shift_rms(static_cast<float>(layer) + 0.25f);
      response->add_channel_mix_shift_rms(static_cast<float>(layer) + 0.5f);
    }
    return grpc::Status::OK;
  }

  // Identical with itself; otherwise layer l, head h: cosine 1 - l / 10, distance l / 10 + h / 100.
  grpc::Status CompareStates(grpc::ServerContext*, const v1::CompareStatesRequest* request,
                             v1::CompareStatesResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    v1::State first, second;
    if (grpc::Status status = Find(request->first(), &first); !status.ok()) return status;
    if (grpc::Status status = Find(request->second(), &second); !status.ok()) return status;
    const bool identical = request->first() == request->second();
    const auto set = [identical](v1::HeadDifference* difference, float distance) {
      difference->set_cosine(identical ? 1 : 1 - distance);
      difference->set_relative_distance(identical ? 0 : distance);
    };
    set(response->mutable_total(), 0.5f);
    for (int layer = 0; layer < first.shape().layers(); ++layer) {
      const float distance = static_cast<float>(layer) / 10;
      for (int head = 0; head < first.shape().heads(); ++head)
        set(response->add_heads(), distance + static_cast<float>(head) / 100);
      set(response->add_time_mix_shift(), distance);
      set(response->add_channel_mix_shift(), distance);
    }
    response->set_identical(identical);
    return grpc::Status::OK;
  }

  // State i lies at (i, -i); the directions hold 0.75 and 0.125 of the variance.
  grpc::Status ProjectStates(grpc::ServerContext*, const v1::ProjectStatesRequest* request,
                             v1::ProjectStatesResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    for (int i = 0; i < request->names_size(); ++i) {
      v1::ProjectStatesResponse::Point* const point = response->add_points();
      if (grpc::Status status = Find(request->names(i), point->mutable_state()); !status.ok())
        return status;
      point->set_x(i);
      point->set_y(-i);
    }
    if (request->method() != v1::ProjectStatesRequest::T_SNE) {
      response->add_explained_variance(0.75);
      response->add_explained_variance(0.125);
    }
    const std::lock_guard lock(fake.mutex_);
    fake.projections_.push_back(*request);
    return grpc::Status::OK;
  }

  // The whole of what is known, whatever was asked for.
  grpc::Status GetLineage(grpc::ServerContext*, const v1::GetLineageRequest* request,
                          v1::GetLineageResponse* response) override {
    if (grpc::Status status = fake.Begin(); !status.ok()) return status;
    if (grpc::Status status = Find(request->name(), response->add_states()); !status.ok())
      return status;
    const std::lock_guard lock(fake.mutex_);
    for (const auto& [name, state] : fake.states_) {
      if (name != request->name()) *response->add_states() = state;
      for (const std::string& parent : state.lineage().parents()) {
        if (fake.states_.count(parent) == 0) response->add_unknown(parent);
      }
    }
    return grpc::Status::OK;
  }

  FakeServer& fake;
};

}  // namespace dreamstate::client
