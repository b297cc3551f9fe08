// What to do next with the versions of a model: a pure function over a snapshot, so that every rule
// is a row of a table test.
//
// 1. One version serves. It is the pinned one, or else the newest that the follow mode takes; when
//    nothing serves yet, older ones are tried after newer ones that failed. While something serves,
//    a newest version that failed is not replaced by an older one.
// 2. At most two backbones are live for a model, and of each at most two versions: one that takes
//    calls and one whose streams end; so up to four versions are live. Versions that share a
//    backbone share its weights where both hold them in the same formats.
// 3. Who replaces a version of another backbone keeps it live for calls that name its states, until
//    a third backbone wants its place.
// 4. Whoever finds no place waits, verified, and is forgotten for a newer one. The oldest then
// takes
//    no new calls; its streams may finish, and are ended when `max_drain` has passed since it took
//    its last.
// 5. One verification or load at a time, all models together.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace dreamstate::server {

// Where a version of a model stands. Anything may turn into kFailed.
enum class VersionState {
  kDiscovered,
  kVerifying,  // and, once verified, waiting for its turn or its place
  kLoading,
  kWarmingUp,  // and, once tested, about to serve
  kServing,
  kDraining,  // replaced: streams finish on it, and it may be kept for its backbone's states
  kReleased,
  kFailed,
};
// "discovered", "verifying", …
std::string_view VersionStateName(VersionState state);

// Which new versions a model takes.
enum class FollowMode { kAll, kSameBackbone, kPinned };
// "all", "same-backbone", "pinned".
std::string_view FollowModeName(FollowMode mode);
// INVALID_ARGUMENT naming the known ones.
absl::StatusOr<FollowMode> ParseFollowMode(std::string_view name);

struct VersionView {
  int64_t version = 0;
  VersionState state = VersionState::kDiscovered;
  std::string backbone;  // digest; empty when the manifest cannot be read
  // kVerifying: verified. kWarmingUp: tested.
  bool ready = false;
  // kFailed: when to try again.
  absl::Time retry_at = absl::InfiniteFuture();
  // kDraining: calls that name a state of its backbone still go there.
  bool kept = false;
  // kServing, kDraining: calls or streams hold it.
  bool in_use = false;
  // kDraining: since when it takes no calls. Meaningless while kept.
  absl::Time drains_since = absl::InfiniteFuture();
  // kDraining: its streams were told to end.
  bool ending = false;
};

struct ModelView {
  std::string model;
  FollowMode follow = FollowMode::kAll;
  std::optional<int64_t> pinned;
  bool pin_unreadable = false;        // then nothing new is taken: somebody wanted to pin
  std::vector<VersionView> versions;  // newest first
};

struct Action {
  enum class Kind {
    kVerify,      // sizes, hashes, memory
    kForget,      // a verified version is not wanted any more: back to kDiscovered
    kLoad,        // pack the weights, or share those of its backbone; then the self-test
    kPromote,     // new calls go there from now on; what served drains
    kRetire,      // no longer kept: it takes no calls at all
    kEndStreams,  // what still runs on it ends UNAVAILABLE
    kRelease,     // nobody holds it: let go of it
  };
  Kind kind;
  std::string model;
  int64_t version;
  friend bool operator==(const Action&, const Action&) = default;
};

// The version that `model` should serve and does not; nothing when all is as it should be.
std::optional<int64_t> Wanted(const ModelView& model, absl::Time now);

// Whether nothing is left to load for `model`: what is wanted serves, or was rejected.
bool IsSettled(const ModelView& model, absl::Time now);

// In the order to act in. Asking again after acting gives what follows from it; no action, nothing
// to do until the snapshot or the time changes.
std::vector<Action> NextActions(std::span<const ModelView> models, absl::Time now,
                                absl::Duration max_drain);

// When NextActions may answer otherwise although the snapshot has not changed.
absl::Time NextDeadline(std::span<const ModelView> models, absl::Time now,
                        absl::Duration max_drain);

// Whether a failure of this code may pass by itself (no memory, a file system's hiccup) instead of
// lying in the version's files.
bool IsPassing(absl::StatusCode code);

// How long after failure number `failures` (from 1) to try again: doubling from `first`, at most
// `most`.
absl::Duration RetryDelay(int failures, absl::Duration first, absl::Duration most);

}  // namespace dreamstate::server
