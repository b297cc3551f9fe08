#include "server/inference/generation_service.h"

#include <utility>

#include "server/inference/edit_state.h"
#include "server/inference/generate_stream.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {

grpc::ServerWriteReactor<v1::GenerateStatesResponse>* GenerationService::GenerateStates(
    grpc::CallbackServerContext* context, const v1::GenerateStatesRequest* request) {
  return StartGenerateStates(context_, memory_, context, *request);
}

grpc::ServerUnaryReactor* GenerationService::EditState(grpc::CallbackServerContext* context,
                                                       const v1::EditStateRequest* request,
                                                       v1::EditStateResponse* response) {
  return RunUnaryOnce(*memory_, "EditState", context, request, response,
                      [=, this](std::function<void(absl::Status)> done) {
                        RunOnExecutor(
                            *context_.workers, context,
                            [=, this]() -> absl::Status {
                              const CallTimes times = TimesOf(*context, *context_.serving.clock);
                              return server::EditState(
                                  context_, *request, times,
                                  [context] { return CheckWanted(*context); }, response);
                            },
                            std::move(done));
                      });
}

}  // namespace dreamstate::server
