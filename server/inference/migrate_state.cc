#include "server/inference/migrate_state.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/harvest_job.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/store_call.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {
namespace {

absl::Status Lost(const std::string& name, std::string_view why) {
  return absl::FailedPreconditionError(StrCat(name, " cannot be read again: ", why));
}

// Every token that a state has read since the empty state: those kept in its record, behind those
// of the state it was made from, and so on. FAILED_PRECONDITION naming what is missing.
absl::StatusOr<std::vector<int32_t>> AllTokens(state::StateStore& store, Metrics& metrics,
                                               const grpc::CallbackServerContext& call,
                                               std::shared_ptr<const state::Record> record) {
  const std::string name = StateResourceName(record->id);
  std::vector<int32_t> reversed;
  for (;;) {
    DS_RETURN_IF_ERROR(CheckWanted(call));  // a chain may be long
    const std::vector<int32_t>& kept = record->lineage.kept_tokens;
    const std::string here = StateResourceName(record->id);
    if (kept.empty()) {
      return Lost(name, StrCat("the tokens of ", here,
                               " were not kept (keep_tokens of HarvestStates and Decode)"));
    }
    reversed.insert(reversed.end(), kept.rbegin(), kept.rend());
    const int64_t before = record->token_count - static_cast<int64_t>(kept.size());
    if (before == 0) break;
    if (record->lineage.parents.size() != 1) {
      return Lost(name, StrCat(here, " began from a state of ", before,
                               " tokens that were read elsewhere"));
    }
    const std::string& parent = record->lineage.parents.front();
    absl::StatusOr<std::shared_ptr<const state::Record>> found =
        Measured(metrics, "get", [&] { return store.Get(kTenant, parent); });
    if (absl::IsNotFound(found.status())) {
      return Lost(
          name, StrCat(StateResourceName(parent), ", which ", here, " was made from, was deleted"));
    }
    DS_RETURN_IF_ERROR(found.status());
    if ((*found)->token_count != before) {
      return Lost(name, StrCat(here, " has read ", before, " tokens before those that were kept, ",
                               StateResourceName(parent), " has read ", (*found)->token_count));
    }
    record = *std::move(found);
  }
  std::reverse(reversed.begin(), reversed.end());
  return reversed;
}

// Labels and time-to-live of the state that moves.
state::Annotations SameAnnotations(const state::Description& description, absl::Time now) {
  state::Annotations same = {.labels = description.labels};
  if (description.expires) {
    same.time_to_live = std::max(*description.expires - now, absl::Seconds(1));
  }
  return same;
}

// One call. Keeps itself alive while its job runs.
class Migration final : public HarvestSink, public std::enable_shared_from_this<Migration> {
 public:
  Migration(const ServingContext& context, Metrics* metrics, Places* room,
            const grpc::CallbackServerContext* call, const v1::MigrateStateRequest& request,
            v1::State* response, std::function<void(absl::Status)> done)
      : context_(context),
        metrics_(*metrics),
        room_(*room),
        call_(*call),
        request_(request),
        response_(response),
        done_(std::move(done)),
        times_(TimesOf(*call, *context.clock)) {}

  // On the executor. An error ends the call; OK means that the job will.
  absl::Status Begin() {
    DS_ASSIGN_OR_RETURN(const std::string id, ParseStateName("name", request_.name()));
    absl::StatusOr<state::Annotations> annotations = FromMessage(request_.annotations());
    if (!annotations.ok()) return WithFieldPrefix(annotations.status(), "annotations");
    DS_ASSIGN_OR_RETURN(
        const std::shared_ptr<const state::Record> record,
        Measured(metrics_, "get", [&] { return context_.store->Get(kTenant, id); }));
    DS_ASSIGN_OR_RETURN(const state::Description description, Measured(metrics_, "describe", [&] {
                          return context_.store->Describe(kTenant, id);
                        }));
    auto plan = std::make_shared<HarvestPlan>();
    DS_ASSIGN_OR_RETURN(plan->session, context_.models->Find(request_.model().empty()
                                                                 ? StrCat("models/", record->model)
                                                                 : request_.model()));
    const ModelSession& session = *plan->session;
    if (record->fingerprint == session.weights->fingerprint) {
      return absl::FailedPreconditionError(
          StrCat(StateResourceName(id), " is of the backbone that ", session.VersionName(),
                 " serves: it needs no migration"));
    }
    DocumentTask task = {.id = StateResourceName(id)};
    const int64_t most = context_.limits.max_migrating_tokens;
    if (record->token_count > most) {
      return Lost(task.id, StrCat("it has read ", record->token_count, " tokens, at most ", most,
                                  " are read again (--migrate-max-tokens of the server)"));
    }
    DS_ASSIGN_OR_RETURN(place_, room_.Take(std::max<int64_t>(record->token_count, 1)));
    DS_ASSIGN_OR_RETURN(task.tokens, AllTokens(*context_.store, metrics_, call_, record));
    for (const int32_t token : task.tokens) {
      if (token < 0 || token >= session.weights->config.vocab) {
        return Lost(task.id, StrCat("it has read token ", token, ", and ", session.VersionName(),
                                    " knows ", session.weights->config.vocab));
      }
    }
    const auto count = static_cast<int64_t>(task.tokens.size());
    task.marks.push_back({.position = count, .tokens = count});
    task.annotations = request_.has_annotations()
                           ? *std::move(annotations)
                           : SameAnnotations(description, context_.clock->Now());
    plan->keep_tokens = true;
    plan->migrates = HarvestPlan::Migrates{.id = id, .fingerprint = record->fingerprint};
    self_ = shared_from_this();
    const std::shared_ptr<Scheduler> scheduler = session.scheduler;
    absl::Status submitted = scheduler->Submit(std::make_shared<HarvestJob>(
        context_, std::move(plan), std::move(task), times_, /*lease=*/nullptr, this));
    if (!submitted.ok()) self_.reset();
    return submitted;
  }

  bool HasRoom() override {
    if (!CheckWanted(call_).ok()) times_.cancelled->store(true, std::memory_order_relaxed);
    return true;
  }
  absl::Time alarm() override { return absl::InfiniteFuture(); }
  void TokensRead(int64_t) override {}
  void StateMade(v1::HarvestedState state) override {
    *response_ = std::move(*state.mutable_state());
  }
  void DocumentDone(const DocumentTask&, const absl::Status& status) override {
    const std::shared_ptr<Migration> last = std::move(self_);
    place_.reset();
    done_(status);
  }

  void End(absl::Status status) { done_(std::move(status)); }

 private:
  const ServingContext context_;
  Metrics& metrics_;
  Places& room_;
  Places::Place place_;  // for the tokens
  const grpc::CallbackServerContext& call_;
  const v1::MigrateStateRequest& request_;
  v1::State* const response_;
  const std::function<void(absl::Status)> done_;
  const CallTimes times_;
  std::shared_ptr<Migration> self_;
};

}  // namespace

void MigrateState(const ServingContext& context, Metrics* metrics, Places* room,
                  const grpc::CallbackServerContext* call, const v1::MigrateStateRequest& request,
                  v1::State* response, std::function<void(absl::Status)> done) {
  const auto migration =
      std::make_shared<Migration>(context, metrics, room, call, request, response, std::move(done));
  const bool taken = context.executor->TrySubmit([migration, call] {
    absl::Status status = CheckWanted(*call);
    if (status.ok()) status = WithoutExceptions([&] { return migration->Begin(); });
    if (!status.ok()) migration->End(std::move(status));
  });
  if (!taken) migration->End(ExecutorFull());
}

}  // namespace dreamstate::server
