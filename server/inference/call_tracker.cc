#include "server/inference/call_tracker.h"

#include <optional>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "dreamstate/v1/decode_service.pb.h"
#include "dreamstate/v1/model_service.pb.h"
#include "dreamstate/v1/state_service.pb.h"
#include "server/inference/errors.h"

namespace dreamstate::server {

using grpc::experimental::InterceptionHookPoints;

// Lives as long as its call.
class CallTracker::Interceptor : public grpc::experimental::Interceptor {
 public:
  Interceptor(CallTracker* tracker, const std::string& method)
      : tracker_(tracker), method_(method), start_(absl::Now()) {
    tracker_->Begin(method_);
  }
  // A call that ended without a status was given up by its client.
  ~Interceptor() override {
    tracker_->End(method_, code_.value_or(grpc::StatusCode::CANCELLED),
                  ended_.value_or(absl::Now()) - start_);
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_STATUS)) {
      grpc::Status status = methods->GetSendStatus();
      // Every method is implemented: this is how the library answers a request that it cannot
      // parse.
      if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED &&
          status.error_message().empty()) {
        status = ToGrpcStatus(
            absl::InvalidArgumentError("the request's bytes are no message of this method"));
        methods->ModifySendStatus(status);
      }
      code_ = status.error_code();
      ended_ = absl::Now();
    }
    methods->Proceed();
  }

 private:
  CallTracker* const tracker_;
  const std::string& method_;
  const absl::Time start_;
  std::optional<absl::Time> ended_;
  std::optional<grpc::StatusCode> code_;
};

class CallTracker::Factory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit Factory(CallTracker* tracker) : tracker_(tracker) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    const auto method = tracker_->methods_.find(std::string_view(info->method()));
    return method == tracker_->methods_.end() ? nullptr : new Interceptor(tracker_, *method);
  }

 private:
  CallTracker* const tracker_;
};

CallTracker::CallTracker(Metrics* metrics) : metrics_(metrics) {
  for (const google::protobuf::FileDescriptor* file :
       {v1::ListModelsRequest::descriptor()->file(), v1::GetStateRequest::descriptor()->file(),
        v1::DecodeRequest::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      for (int m = 0; m < file->service(s)->method_count(); ++m) {
        methods_.insert(
            StrCat("/", file->service(s)->full_name(), "/", file->service(s)->method(m)->name()));
      }
    }
  }
}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
CallTracker::MakeInterceptors() {
  return std::make_unique<Factory>(this);
}

void CallTracker::Begin(const std::string& method) {
  metrics_->OnCallStarted(method);
  MutexLock lock(mutex_);
  ++running_;
}

void CallTracker::End(const std::string& method, grpc::StatusCode code, absl::Duration duration) {
  metrics_->OnCallEnded(method, code, duration);
  MutexLock lock(mutex_);
  if (--running_ == 0) changed_.NotifyAll();
}

bool CallTracker::WaitIdle(absl::Duration limit) {
  const absl::Time end = absl::Now() + limit;
  MutexLock lock(mutex_);
  while (running_ > 0) {
    const absl::Duration left = end - absl::Now();
    if (left <= absl::ZeroDuration()) return false;
    changed_.WaitFor(mutex_, left);
  }
  return true;
}

}  // namespace dreamstate::server
