#include "server/inference/model_policy.h"

#include <algorithm>
#include <set>

#include "core/base/strings.h"

namespace dreamstate::server {
namespace {

using Kind = Action::Kind;

bool InProgress(const VersionView& version) {
  return version.state == VersionState::kLoading || ((version.state == VersionState::kVerifying ||
                                                      version.state == VersionState::kWarmingUp) &&
                                                     !version.ready);
}

bool Live(const VersionView& version) {
  return version.state == VersionState::kServing || version.state == VersionState::kDraining;
}

bool Failed(const VersionView& version, absl::Time now) {
  return version.state == VersionState::kFailed && now < version.retry_at;
}

const VersionView* FindVersion(const ModelView& model, int64_t number) {
  const auto found = std::find_if(model.versions.begin(), model.versions.end(),
                                  [&](const VersionView& v) { return v.version == number; });
  return found == model.versions.end() ? nullptr : &*found;
}

const VersionView* Serving(const ModelView& model) {
  const auto found =
      std::find_if(model.versions.begin(), model.versions.end(),
                   [](const VersionView& v) { return v.state == VersionState::kServing; });
  return found == model.versions.end() ? nullptr : &*found;
}

// What the follow mode takes when nothing is pinned.
const VersionView* Followed(const ModelView& model, const VersionView* serving, absl::Time now) {
  if (model.follow == FollowMode::kPinned) return nullptr;
  if (serving == nullptr) {
    const auto found = std::find_if(model.versions.begin(), model.versions.end(),
                                    [&](const VersionView& v) { return !Failed(v, now); });
    return found == model.versions.end() ? nullptr : &*found;
  }
  const auto newest =
      std::find_if(model.versions.begin(), model.versions.end(), [&](const VersionView& v) {
        return model.follow == FollowMode::kAll || v.backbone == serving->backbone;
      });
  // What serves stays when its file was removed, however old what is left.
  if (newest == model.versions.end() || newest->version <= serving->version) return nullptr;
  return &*newest;
}

// The live versions that must go before `wanted` finds a place; empty when there is one.
std::vector<const VersionView*> InTheWay(const ModelView& model, const VersionView& wanted,
                                         const VersionView* serving) {
  std::vector<const VersionView*> same, others;
  std::set<std::string_view> backbones;
  for (const VersionView& version : model.versions) {
    if (!Live(version)) continue;
    backbones.insert(version.backbone);
    if (version.backbone == wanted.backbone) {
      // One takes calls, and will be the one that drains.
      if (version.state == VersionState::kDraining && !version.kept) same.push_back(&version);
    } else if (serving == nullptr || version.backbone != serving->backbone) {
      others.push_back(&version);
    }
  }
  if (backbones.contains(wanted.backbone)) return same;
  return backbones.size() < 2 ? std::vector<const VersionView*>() : others;
}

// One model's turn.
class Turn {
 public:
  Turn(const ModelView& model, absl::Time now, absl::Duration max_drain, bool busy)
      : model_(model), now_(now), max_drain_(max_drain), busy_(busy) {}

  std::vector<Action> Run() {
    const VersionView* serving = Serving(model_);
    const std::optional<int64_t> number = Wanted(model_, now_);
    const VersionView* wanted = number ? FindVersion(model_, *number) : nullptr;
    for (const VersionView& version : model_.versions) {
      if (version.state == VersionState::kWarmingUp && version.ready) {
        // It was wanted when it was begun; better than nothing, unless a pin or the mode forbids
        // it.
        const bool first = serving == nullptr && !model_.pinned && !model_.pin_unreadable &&
                           model_.follow != FollowMode::kPinned;
        Add(&version == wanted || first ? Kind::kPromote : Kind::kRelease, version);
        return actions_;  // the rest looks different afterwards
      }
      if (version.state == VersionState::kVerifying && version.ready && &version != wanted) {
        Add(Kind::kForget, version);
      }
      if (version.state == VersionState::kDraining && !version.kept && !version.in_use &&
          (&version != wanted || version.ending)) {
        Add(Kind::kRelease, version);
      }
    }
    if (wanted != nullptr) Want(*wanted, serving);
    return actions_;
  }

 private:
  void Add(Kind kind, const VersionView& version) {
    actions_.push_back({kind, model_.model, version.version});
  }

  void Want(const VersionView& wanted, const VersionView* serving) {
    if (wanted.state == VersionState::kDraining) {
      // It is still here. One that ends its streams is not taken back; it is loaded again later.
      if (!wanted.ending) Add(Kind::kPromote, wanted);
      return;
    }
    if (InProgress(wanted)) return;
    if (wanted.state != VersionState::kVerifying) {
      if (!busy_) Add(Kind::kVerify, wanted);
      return;
    }
    const std::vector<const VersionView*> in_the_way = InTheWay(model_, wanted, serving);
    if (in_the_way.empty()) {
      if (!busy_) Add(Kind::kLoad, wanted);
      return;
    }
    for (const VersionView* version : in_the_way) {
      if (version->kept) {
        Add(Kind::kRetire, *version);
      } else if (version->in_use && !version->ending &&
                 now_ >= version->drains_since + max_drain_) {
        Add(Kind::kEndStreams, *version);
      }
    }
  }

  const ModelView& model_;
  const absl::Time now_;
  const absl::Duration max_drain_;
  const bool busy_;
  std::vector<Action> actions_;
};

}  // namespace

std::string_view VersionStateName(VersionState state) {
  static constexpr std::string_view kNames[] = {"discovered", "verifying", "loading",  "warming up",
                                                "serving",    "draining",  "released", "failed"};
  return kNames[static_cast<int>(state)];
}

std::string_view FollowModeName(FollowMode mode) {
  static constexpr std::string_view kNames[] = {"all", "same-backbone", "pinned"};
  return kNames[static_cast<int>(mode)];
}

absl::StatusOr<FollowMode> ParseFollowMode(std::string_view name) {
  for (const FollowMode mode : {FollowMode::kAll, FollowMode::kSameBackbone, FollowMode::kPinned}) {
    if (name == FollowModeName(mode)) return mode;
  }
  return absl::InvalidArgumentError(
      StrCat("expected all, same-backbone or pinned, found \"", name, "\""));
}

std::optional<int64_t> Wanted(const ModelView& model, absl::Time now) {
  if (model.pin_unreadable) return std::nullopt;
  const VersionView* serving = Serving(model);
  const VersionView* wanted =
      model.pinned ? FindVersion(model, *model.pinned) : Followed(model, serving, now);
  if (wanted == nullptr || wanted == serving || Failed(*wanted, now)) return std::nullopt;
  return wanted->version;
}

bool IsSettled(const ModelView& model, absl::Time now) {
  return !Wanted(model, now) &&
         std::none_of(model.versions.begin(), model.versions.end(), [](const VersionView& version) {
           return InProgress(version) ||
                  (version.ready && (version.state == VersionState::kVerifying ||
                                     version.state == VersionState::kWarmingUp));
         });
}

std::vector<Action> NextActions(std::span<const ModelView> models, absl::Time now,
                                absl::Duration max_drain) {
  bool busy = std::any_of(models.begin(), models.end(), [](const ModelView& model) {
    return std::any_of(model.versions.begin(), model.versions.end(), InProgress);
  });
  std::vector<Action> actions;
  for (const ModelView& model : models) {
    for (Action& action : Turn(model, now, max_drain, busy).Run()) {
      busy |= action.kind == Kind::kVerify || action.kind == Kind::kLoad;
      actions.push_back(std::move(action));
    }
  }
  return actions;
}

absl::Time NextDeadline(std::span<const ModelView> models, absl::Time now,
                        absl::Duration max_drain) {
  absl::Time next = absl::InfiniteFuture();
  const auto consider = [&](absl::Time time) {
    if (time > now) next = std::min(next, time);
  };
  for (const ModelView& model : models) {
    for (const VersionView& version : model.versions) {
      if (version.state == VersionState::kFailed) consider(version.retry_at);
      if (version.state == VersionState::kDraining && !version.kept) {
        consider(version.drains_since + max_drain);
      }
    }
  }
  return next;
}

bool IsPassing(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
      return false;
    default:
      return true;
  }
}

absl::Duration RetryDelay(int failures, absl::Duration first, absl::Duration most) {
  absl::Duration delay = first;
  for (int i = 1; i < failures && delay < most; ++i) delay *= 2;
  return std::min(delay, most);
}

}  // namespace dreamstate::server
