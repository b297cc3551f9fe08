#include "server/inference/lineage_graph.h"

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"
#include "server/inference/state_query.h"
#include "server/inference/store_call.h"
#include "server/inference/unary_call.h"

namespace dreamstate::server {
namespace {

constexpr int kDefaultAncestorGenerations = 100;
constexpr int kMaxGenerations = 1000;
constexpr int kMaxStates = 1000;
constexpr int kMaxUnknown = 1000;

absl::Status CheckGenerations(std::string_view field, int generations) {
  if (generations >= 0 && generations <= kMaxGenerations) return absl::OkStatus();
  return FieldError(field, StrCat("expected 0 to ", kMaxGenerations, ", found ", generations));
}

// Breadth first in both directions. A state is shown once, so that even records whose parents run
// in a circle come to an end.
class Walk {
 public:
  Walk(const ServingContext& context, Metrics& metrics, const grpc::CallbackServerContext& call,
       v1::GetLineageResponse* response)
      : store_(*context.store),
        max_bytes_(MaxListedBytes(context.limits)),
        metrics_(metrics),
        call_(call),
        response_(*response) {}

  absl::Status Run(const std::string& id, int ancestor_generations, int descendant_generations) {
    DS_ASSIGN_OR_RETURN(const state::Description start, Describe(id));
    Show(start);
    const Node node{.id = id, .parents = start.record.lineage.parents};
    DS_RETURN_IF_ERROR(Ancestors({node}, ancestor_generations));
    if (descendant_generations > 0) {
      DS_RETURN_IF_ERROR(Descendants({node}, descendant_generations));
    }
    return absl::OkStatus();
  }

 private:
  struct Node {
    std::string id;
    std::vector<std::string> parents;
  };
  using Generation = std::vector<Node>;

  absl::StatusOr<state::Description> Describe(const std::string& id) {
    DS_RETURN_IF_ERROR(CheckWanted(call_));
    return Measured(metrics_, "describe", [&] { return store_.Describe(kTenant, id); });
  }

  // False, and the answer is marked as cut, when there is no room for it.
  bool Show(const state::Description& description) {
    v1::State message = ToMessage(description);
    bytes_ += static_cast<int64_t>(message.ByteSizeLong());
    if (response_.states_size() > 0 &&
        (response_.states_size() >= kMaxStates || bytes_ > max_bytes_)) {
      response_.set_truncated(true);
      return false;
    }
    seen_.insert(description.record.id);
    *response_.add_states() = std::move(message);
    return true;
  }

  absl::Status Ancestors(Generation generation, int generations) {
    for (; !generation.empty(); --generations) {
      Generation next;
      for (const Node& node : generation) {
        for (const std::string& parent : node.parents) {
          if (seen_.contains(parent)) continue;
          if (generations == 0) {
            response_.set_truncated(true);
            return absl::OkStatus();
          }
          const absl::StatusOr<state::Description> found = Describe(parent);
          if (absl::IsNotFound(found.status()) || absl::IsDataLoss(found.status())) {
            bytes_ += static_cast<int64_t>(parent.size());
            if (response_.unknown_size() >= kMaxUnknown || bytes_ > max_bytes_) {
              response_.set_truncated(true);
              return absl::OkStatus();
            }
            seen_.insert(parent);
            response_.add_unknown(StateResourceName(parent));
            continue;
          }
          DS_RETURN_IF_ERROR(found.status());
          if (!Show(*found)) return absl::OkStatus();
          next.push_back({.id = parent, .parents = found->record.lineage.parents});
        }
      }
      generation = std::move(next);
    }
    return absl::OkStatus();
  }

  absl::Status Descendants(Generation generation, int generations) {
    for (; !generation.empty(); --generations) {
      Generation next;
      for (const Node& node : generation) {
        state::ListQuery query{.parent = node.id, .stubs = true, .oldest_first = true};
        do {
          DS_RETURN_IF_ERROR(CheckWanted(call_));
          DS_ASSIGN_OR_RETURN(state::ListPage page, Measured(metrics_, "list", [&] {
                                return store_.List(kTenant, query);
                              }));
          for (const state::Description& child : page.states) {
            if (seen_.contains(child.record.id)) continue;
            if (generations == 0) {
              response_.set_truncated(true);
              return absl::OkStatus();
            }
            if (!Show(child)) return absl::OkStatus();
            next.push_back({.id = child.record.id, .parents = {}});
          }
          query.page_token = std::move(page.next_page_token);
        } while (!query.page_token.empty());
      }
      generation = std::move(next);
    }
    return absl::OkStatus();
  }

  state::StateStore& store_;
  const int64_t max_bytes_;
  Metrics& metrics_;
  const grpc::CallbackServerContext& call_;
  v1::GetLineageResponse& response_;
  std::set<std::string> seen_;
  int64_t bytes_ = 0;
};

}  // namespace

absl::Status GetLineage(const ServingContext& context, Metrics& metrics,
                        const grpc::CallbackServerContext& call,
                        const v1::GetLineageRequest& request, v1::GetLineageResponse* response) {
  DS_ASSIGN_OR_RETURN(const std::string id, ParseStateName("name", request.name()));
  DS_RETURN_IF_ERROR(CheckGenerations("ancestor_generations", request.ancestor_generations()));
  DS_RETURN_IF_ERROR(CheckGenerations("descendant_generations", request.descendant_generations()));
  const int ancestors = request.ancestor_generations() == 0 ? kDefaultAncestorGenerations
                                                            : request.ancestor_generations();
  return Walk(context, metrics, call, response)
      .Run(id, ancestors, request.descendant_generations());
}

}  // namespace dreamstate::server
