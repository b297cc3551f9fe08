#include "server/inference/delete_states.h"

#include <memory>
#include <utility>

#include "core/base/status.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/state_query.h"
#include "server/inference/store_call.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {
namespace {

// States a task of the executor looks at.
constexpr int kPageSize = 64;
constexpr int kMaxSample = 100;

class Deletion : public std::enable_shared_from_this<Deletion> {
 public:
  Deletion(const ServingContext& context, Metrics* metrics, const grpc::CallbackServerContext* call,
           state::ListQuery query, bool dry_run, v1::DeleteStatesResponse* response,
           std::function<void(absl::Status)> done)
      : context_(context),
        metrics_(*metrics),
        call_(*call),
        query_(std::move(query)),
        dry_run_(dry_run),
        response_(*response),
        done_(std::move(done)) {}

  [[nodiscard]] bool TrySubmit() {
    return context_.executor->TrySubmit([self = shared_from_this()] { self->Run(); });
  }

 private:
  void Run() {
    while (true) {
      absl::Status status = CheckWanted(call_);
      if (status.ok()) status = WithoutExceptions([this] { return Page(); });
      if (!status.ok() || query_.page_token.empty()) {
        done_(std::move(status));
        return;
      }
      // What has begun goes on here when there is no room for it to wait.
      if (TrySubmit()) return;
    }
  }

  // Afterwards the page token is that of the next page; empty at the end.
  absl::Status Page() {
    DS_ASSIGN_OR_RETURN(state::ListPage page, Measured(metrics_, "list", [&] {
                          return context_.store->List(kTenant, query_);
                        }));
    for (const state::Description& description : page.states) {
      if (!dry_run_) {
        // Only as it was listed: with other labels it may fit no longer.
        const absl::Status deleted = Measured(metrics_, "delete", [&] {
          return context_.store->Delete(kTenant, description.record.id, description.etag);
        });
        if (absl::IsAborted(deleted) || absl::IsNotFound(deleted)) continue;
        DS_RETURN_IF_ERROR(deleted);
      }
      response_.set_states(response_.states() + 1);
      response_.set_bytes(response_.bytes() + description.bytes);
      if (response_.sample_size() < kMaxSample) {
        response_.add_sample(StateResourceName(description.record.id));
      }
    }
    query_.page_token = std::move(page.next_page_token);
    return absl::OkStatus();
  }

  const ServingContext context_;
  Metrics& metrics_;
  const grpc::CallbackServerContext& call_;
  state::ListQuery query_;
  const bool dry_run_;
  v1::DeleteStatesResponse& response_;
  const std::function<void(absl::Status)> done_;
};

}  // namespace

void DeleteStates(const ServingContext& context, Metrics* metrics,
                  const grpc::CallbackServerContext* call, const v1::DeleteStatesRequest& request,
                  v1::DeleteStatesResponse* response, std::function<void(absl::Status)> done) {
  absl::StatusOr<state::ListQuery> query = ParseQuery(request);
  if (!query.ok()) {
    done(query.status());
    return;
  }
  query->page_size = kPageSize;
  const auto deletion = std::make_shared<Deletion>(context, metrics, call, *std::move(query),
                                                   request.dry_run(), response, done);
  if (!deletion->TrySubmit()) done(ExecutorFull());
}

}  // namespace dreamstate::server
