// The methods of ModelService that change what is served.
#include <utility>

#include "core/base/mutex.h"
#include "core/base/status.h"
#include "server/inference/errors.h"
#include "server/inference/model_messages.h"
#include "server/inference/model_service.h"
#include "server/inference/resource_names.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {
namespace {

absl::Status NotAllowed() {
  return absl::PermissionDeniedError("this server answers no admin calls (--admin-calls)");
}

// One ReloadModel call. Finished by the host, by the end of the caller's patience, or at once;
// deletes itself when gRPC is done with it.
class ReloadCall final : public grpc::ServerUnaryReactor {
 public:
  ReloadCall(ModelHost& host, bool admin_calls, const v1::ReloadModelRequest& request,
             v1::ReloadModelResponse* response)
      : answer_(std::make_shared<Answer>(this, response)) {
    // Finishing may end this: nothing is touched afterwards.
    const std::shared_ptr<Answer> answer = answer_;
    const absl::Status status = Begin(host, admin_calls, request, response);
    if (!status.ok()) {
      answer->OnSettled(status);
    } else if (!request.wait()) {
      answer->OnSettled(host.Model(ParseModelName("name", request.name()).value()));
    }
  }

  void OnCancel() override { answer_->OnSettled(absl::CancelledError("the caller is gone")); }
  void OnDone() override { delete this; }

 private:
  class Answer final : public SettledListener {
   public:
    Answer(ReloadCall* call, v1::ReloadModelResponse* response)
        : call_(call), response_(response) {}
    void OnSettled(absl::StatusOr<ModelStatus> status) override {
      ReloadCall* call = nullptr;
      {
        MutexLock lock(mutex_);
        std::swap(call, call_);
      }
      if (call == nullptr) return;  // answered before
      if (status.ok()) *response_->mutable_model() = ToMessage(*status);
      call->Finish(ToGrpcStatus(status.status()));
    }

   private:
    Mutex mutex_;
    ReloadCall* call_ ABSL_GUARDED_BY(mutex_);
    v1::ReloadModelResponse* const response_;
  };

  absl::Status Begin(ModelHost& host, bool admin_calls, const v1::ReloadModelRequest& request,
                     v1::ReloadModelResponse* response) {
    if (!admin_calls) return NotAllowed();
    DS_ASSIGN_OR_RETURN(const std::string model, ParseModelName("name", request.name()));
    DS_ASSIGN_OR_RETURN(const std::vector<int64_t> retried, host.Reload(model));
    response->mutable_retried_versions()->Add(retried.begin(), retried.end());
    if (request.wait()) host.WhenSettled(model, answer_);
    return absl::OkStatus();
  }

  const std::shared_ptr<Answer> answer_;
};

absl::Status Pin(ModelHost& host, const v1::PinModelVersionRequest& request, v1::Model* response) {
  DS_ASSIGN_OR_RETURN(const VersionName name, ParseVersionName("name", request.name()));
  absl::StatusOr<ModelStatus> status = host.Pin(name.model, name.version);
  if (absl::IsNotFound(status.status())) {
    return ResourceError(absl::StatusCode::kNotFound, "version", request.name(),
                         "the repository has none of that name");
  }
  DS_RETURN_IF_ERROR(status.status());
  *response = ToMessage(*status);
  return absl::OkStatus();
}

absl::Status Unpin(ModelHost& host, const v1::UnpinModelRequest& request, v1::Model* response) {
  DS_ASSIGN_OR_RETURN(const std::string model, ParseModelName("name", request.name()));
  DS_ASSIGN_OR_RETURN(const ModelStatus status, host.Unpin(model));
  *response = ToMessage(status);
  return absl::OkStatus();
}

}  // namespace

grpc::ServerUnaryReactor* ModelService::ReloadModel(grpc::CallbackServerContext* /*context*/,
                                                    const v1::ReloadModelRequest* request,
                                                    v1::ReloadModelResponse* response) {
  return new ReloadCall(*host_, admin_calls_, *request, response);
}

grpc::ServerUnaryReactor* ModelService::PinModelVersion(grpc::CallbackServerContext* context,
                                                        const v1::PinModelVersionRequest* request,
                                                        v1::Model* response) {
  return RunUnary(*executor_, context, [this, request, response] {
    return admin_calls_ ? Pin(*host_, *request, response) : NotAllowed();
  });
}

grpc::ServerUnaryReactor* ModelService::UnpinModel(grpc::CallbackServerContext* context,
                                                   const v1::UnpinModelRequest* request,
                                                   v1::Model* response) {
  return RunUnary(*executor_, context, [this, request, response] {
    return admin_calls_ ? Unpin(*host_, *request, response) : NotAllowed();
  });
}

}  // namespace dreamstate::server
