#include "server/inference/project_states.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "core/state/gram.h"
#include "core/state/projection.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/state_query.h"
#include "server/inference/store_call.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {
namespace {

constexpr int kFewestStates = 3, kMostStates = 2000;
constexpr float kLeastPerplexity = 2, kMostPerplexity = 100;
constexpr double kUsualPerplexity = 30;
constexpr int64_t kHeldBytes = int64_t{256} << 20;

bool IsTsne(const v1::ProjectStatesRequest& request) {
  return request.method() == v1::ProjectStatesRequest::T_SNE;
}

absl::Status CheckMethod(const v1::ProjectStatesRequest& request) {
  if (!v1::ProjectStatesRequest::Method_IsValid(request.method())) {
    return FieldError("method", StrCat("expected PCA or T_SNE, found ", request.method()));
  }
  if (!request.has_perplexity()) return absl::OkStatus();
  const float perplexity = request.perplexity();
  if (!(perplexity >= kLeastPerplexity && perplexity <= kMostPerplexity)) {
    return FieldError("perplexity", StrCat("expected ", kLeastPerplexity, " to ", kMostPerplexity,
                                           ", found ", perplexity));
  }
  const int others = request.names_size() - 1;
  if (IsTsne(request) && perplexity > static_cast<float>(others)) {
    return FieldError("perplexity", StrCat("expected at most ", others, " for ", others + 1,
                                           " states, found ", perplexity));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> ParseNames(const v1::ProjectStatesRequest& request) {
  if (request.names_size() < kFewestStates || request.names_size() > kMostStates) {
    return FieldError("names", StrCat("expected ", kFewestStates, " to ", kMostStates,
                                      " states, found ", request.names_size()));
  }
  std::vector<std::string> ids;
  for (int i = 0; i < request.names_size(); ++i) {
    DS_ASSIGN_OR_RETURN(ids.emplace_back(),
                        ParseStateName(StrCat("names[", i, "]"), request.names(i)));
  }
  return ids;
}

absl::StatusOr<std::vector<int>> ParseLayers(const v1::ProjectStatesRequest& request, int layers) {
  std::vector<int> chosen;
  std::vector<bool> seen(static_cast<size_t>(layers));
  for (int i = 0; i < request.layers_size(); ++i) {
    const int layer = request.layers(i);
    const std::string field = StrCat("layers[", i, "]");
    if (layer < 0 || layer >= layers) {
      return FieldError(field, StrCat("expected 0 to ", layers - 1, ", found ", layer));
    }
    if (seen[static_cast<size_t>(layer)]) {
      return FieldError(field, StrCat("expected each layer once, found ", layer, " again"));
    }
    seen[static_cast<size_t>(layer)] = true;
    chosen.push_back(layer);
  }
  if (chosen.empty()) {
    chosen.resize(static_cast<size_t>(layers));
    std::iota(chosen.begin(), chosen.end(), 0);
  }
  return chosen;
}

class Projection {
 public:
  Projection(const ServingContext& context, Metrics& metrics,
             const grpc::CallbackServerContext& call, const v1::ProjectStatesRequest& request,
             v1::ProjectStatesResponse* response)
      : store_(*context.store),
        max_bytes_(MaxListedBytes(context.limits)),
        metrics_(metrics),
        call_(call),
        request_(request),
        response_(*response) {}

  absl::Status Run() {
    DS_ASSIGN_OR_RETURN(ids_, ParseNames(request_));
    DS_RETURN_IF_ERROR(CheckMethod(request_));
    DS_RETURN_IF_ERROR(Describe());
    DS_ASSIGN_OR_RETURN(layers_, ParseLayers(request_, shape_.layers));
    const absl::Status status = Project();
    // The reason why the work was stopped.
    if (absl::IsCancelled(status)) DS_RETURN_IF_ERROR(CheckWanted(call_));
    return status;
  }

 private:
  // Whether all can be on one map; what the answer says of each.
  absl::Status Describe() {
    std::string fingerprint;
    int64_t bytes = 0;
    for (size_t i = 0; i < ids_.size(); ++i) {
      DS_RETURN_IF_ERROR(CheckWanted(call_));
      DS_ASSIGN_OR_RETURN(const state::Description description, Measured(metrics_, "describe", [&] {
                            return store_.Describe(kTenant, ids_[i]);
                          }));
      // There is no such state for who wants its tensors.
      if (description.deleted) DS_RETURN_IF_ERROR(Get(ids_[i]).status());
      const std::string& name = request_.names(static_cast<int>(i));
      if (i == 0) {
        fingerprint = description.record.fingerprint;
        shape_ = description.record.state.shape;
      }
      if (description.record.fingerprint != fingerprint) {
        return FingerprintError(name, fingerprint, description.record.fingerprint);
      }
      if (description.record.state.shape != shape_) {
        return FieldError(StrCat("names[", i, "]"),
                          "expected a state of the same shape as names[0]");
      }
      v1::State* const message = response_.add_points()->mutable_state();
      *message = ToMessage(description);
      bytes += static_cast<int64_t>(message->ByteSizeLong());
      if (bytes > max_bytes_) {
        return FieldError("names",
                          StrCat("expected states whose descriptions take at most ", max_bytes_,
                                 " bytes; the first ", i + 1, " take ", bytes));
      }
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<const state::Record>> Get(const std::string& id) {
    return Measured(metrics_, "get", [&] { return store_.Get(kTenant, id); });
  }

  absl::Status Project() {
    const Stopping stopping = [this] { return !CheckWanted(call_).ok(); };
    const state::VectorSource source{
        .count = static_cast<int>(ids_.size()),
        .elements = layers_.size() * static_cast<size_t>(shape_.heads) *
                    static_cast<size_t>(shape_.head_size) * static_cast<size_t>(shape_.head_size),
        .at = [this](int index) -> absl::StatusOr<std::vector<float>> {
          DS_ASSIGN_OR_RETURN(const auto record, Get(ids_[static_cast<size_t>(index)]));
          return state::MatricesWithoutGauge(record->state, layers_);
        }};
    DS_ASSIGN_OR_RETURN(const state::Gram gram, state::GramOf(source, kHeldBytes, stopping));
    if (IsTsne(request_)) {
      const double perplexity = request_.has_perplexity()
                                    ? double{request_.perplexity()}
                                    : std::min(kUsualPerplexity, source.count / 3.0);
      DS_ASSIGN_OR_RETURN(
          const std::vector<state::Point> points,
          state::TsneOf(gram, {.perplexity = perplexity, .seed = request_.seed()}, stopping));
      Place(points);
    } else {
      DS_ASSIGN_OR_RETURN(const state::PrincipalComponents found,
                          state::PrincipalComponentsOf(gram, stopping));
      Place(found.points);
      for (const double share : found.explained) response_.add_explained_variance(share);
    }
    return absl::OkStatus();
  }

  void Place(const std::vector<state::Point>& points) {
    for (size_t i = 0; i < points.size(); ++i) {
      v1::ProjectStatesResponse::Point* const out = response_.mutable_points(static_cast<int>(i));
      out->set_x(points[i].x);
      out->set_y(points[i].y);
    }
  }

  state::StateStore& store_;
  const int64_t max_bytes_;
  Metrics& metrics_;
  const grpc::CallbackServerContext& call_;
  const v1::ProjectStatesRequest& request_;
  v1::ProjectStatesResponse& response_;
  std::vector<std::string> ids_;
  state::Shape shape_;
  std::vector<int> layers_;
};

}  // namespace

absl::Status ProjectStates(const ServingContext& context, Metrics& metrics,
                           const grpc::CallbackServerContext& call,
                           const v1::ProjectStatesRequest& request,
                           v1::ProjectStatesResponse* response) {
  return Projection(context, metrics, call, request, response).Run();
}

}  // namespace dreamstate::server
