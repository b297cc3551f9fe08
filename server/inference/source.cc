#include "server/inference/source.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status.h"
#include "core/base/strings.h"
#include "server/inference/resource_names.h"
#include "server/inference/state_messages.h"

namespace dreamstate::server {

void Source::Load(rwkv::Engine& engine, int slot) const {
  if (record == nullptr) {
    engine.slots().Clear(slot);
  } else {
    engine.slots().Load(slot, record->state.shift, record->state.wkv);
  }
}

std::string Source::Description() const {
  if (record == nullptr) return "empty";
  return id.empty() ? "inline" : StateResourceName(id);
}

absl::Status CheckBackbone(const state::Record& record, const ModelSession& session,
                           std::string_view subject) {
  if (record.fingerprint != session.weights->fingerprint) {
    std::string_view remedy;
    if (!record.id.empty()) {
      remedy =
          record.lineage.kept_tokens.empty()
              ? "its tokens were not kept, so only a version of its backbone, pinned, can use it"
              : "MigrateState reads its tokens again on the backbone that serves";
    }
    return FingerprintError(subject, session.weights->fingerprint, record.fingerprint, remedy);
  }
  const state::Shape expected = state::Shape::Of(session.weights->config);
  const state::Shape& found = record.state.shape;
  const bool hidden_fits = record.last_hidden.empty() ||
                           record.last_hidden.size() == static_cast<size_t>(expected.width);
  if (found == expected && hidden_fits) return absl::OkStatus();
  return FieldError(
      subject, StrCat("expected a state of ", expected.layers, " layers, width ", expected.width,
                      ", ", expected.heads, " heads of ", expected.head_size, "; found ",
                      found.layers, ", ", found.width, ", ", found.heads, " of ", found.head_size));
}

absl::Status CheckNotOverflowed(const state::Record& record, const Source& source) {
  const auto finite = [](float value) { return std::isfinite(value); };
  if (record.state.Validate().ok() && std::ranges::all_of(record.last_hidden, finite)) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(
      StrCat("the state overflowed: what was read from ", source.Description(), " is not finite"));
}

void FetchSource(const ServingContext& context, std::shared_ptr<const ModelSession> session,
                 const std::string& id, std::function<void(absl::StatusOr<Source>)> done) {
  if (id.empty()) {
    done(Source());
    return;
  }
  auto fetch = [store = context.store, models = context.models, session, id, done] {
    done(WithoutExceptions([&]() -> absl::StatusOr<Source> {
      DS_ASSIGN_OR_RETURN(std::shared_ptr<const state::Record> record, store->Get(kTenant, id));
      std::shared_ptr<const ModelSession> on = session;
      if (record->fingerprint != session->weights->fingerprint) {
        on = models->FindBackbone(session->model, record->fingerprint);
        if (on == nullptr) on = session;  // and the check says what is wrong
      }
      DS_RETURN_IF_ERROR(CheckBackbone(*record, *on, StateResourceName(id)));
      return Source{.record = std::move(record), .id = id, .session = std::move(on)};
    }));
  };
  if (!context.executor->TrySubmit(std::move(fetch))) {
    done(QuotaError("state store queue", "too many calls wait",
                    session->scheduler->options().retry_after));
  }
}

}  // namespace dreamstate::server
