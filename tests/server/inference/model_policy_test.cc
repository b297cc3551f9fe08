#include "server/inference/model_policy.h"

#include <algorithm>
#include <map>
#include <optional>
#include <ostream>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::server {

void PrintTo(const Action& action, std::ostream* out) {
  static constexpr const char* kNames[] = {"verify", "forget",      "load",   "promote",
                                           "retire", "end streams", "release"};
  *out << kNames[static_cast<int>(action.kind)] << " " << action.model << " " << action.version;
}

namespace {

using enum VersionState;
using Kind = Action::Kind;
using ::testing::ElementsAreArray;

constexpr absl::Duration kMaxDrain = absl::Seconds(60);
const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

// Versions of the table, in few words.
VersionView V(int64_t version, VersionState state, std::string backbone = "A") {
  return {.version = version, .state = state, .backbone = std::move(backbone)};
}
VersionView Ready(int64_t version, VersionState state, std::string backbone = "A") {
  VersionView view = V(version, state, std::move(backbone));
  view.ready = true;
  return view;
}
VersionView Serving(int64_t version, std::string backbone = "A") {
  VersionView view = V(version, kServing, std::move(backbone));
  view.in_use = true;
  return view;
}
VersionView Kept(int64_t version, std::string backbone, bool in_use = false) {
  VersionView view = V(version, kDraining, std::move(backbone));
  view.kept = true;
  view.in_use = in_use;
  return view;
}
VersionView Draining(int64_t version, std::string backbone, absl::Duration since,
                     bool in_use = true) {
  VersionView view = V(version, kDraining, std::move(backbone));
  view.drains_since = kNow - since;
  view.in_use = in_use;
  return view;
}
VersionView Ending(int64_t version, std::string backbone, bool in_use = true) {
  VersionView view = Draining(version, std::move(backbone), kMaxDrain, in_use);
  view.ending = true;
  return view;
}
VersionView FailedUntil(int64_t version, absl::Time retry_at, std::string backbone = "A") {
  VersionView view = V(version, kFailed, std::move(backbone));
  view.retry_at = retry_at;
  return view;
}
ModelView Model(std::vector<VersionView> versions, FollowMode follow = FollowMode::kAll,
                std::optional<int64_t> pinned = {}, std::string name = "m") {
  return {.model = std::move(name),
          .follow = follow,
          .pinned = pinned,
          .versions = std::move(versions)};
}
ModelView Named(std::string name, std::vector<VersionView> versions) {
  return Model(std::move(versions), FollowMode::kAll, std::nullopt, std::move(name));
}
ModelView Pinned(int64_t pinned, std::vector<VersionView> versions) {
  return Model(std::move(versions), FollowMode::kAll, pinned);
}
ModelView UnreadablePin(std::vector<VersionView> versions) {
  ModelView model = Model(std::move(versions));
  model.pin_unreadable = true;
  return model;
}
Action Do(Kind kind, int64_t version, const char* model = "m") { return {kind, model, version}; }

struct Row {
  const char* promise;
  std::vector<ModelView> models;
  std::vector<Action> expected;
};

void Check(const std::vector<Row>& table) {
  for (const Row& row : table) {
    EXPECT_THAT(NextActions(row.models, kNow, kMaxDrain), ElementsAreArray(row.expected))
        << row.promise;
  }
}

TEST(ModelPolicy, TheFirstVersionToServe) {
  Check({
      {"nothing known", {}, {}},
      {"a model without versions", {Model({})}, {}},
      {"the newest first", {Model({V(3, kDiscovered), V(2, kDiscovered)})}, {Do(Kind::kVerify, 3)}},
      {"the next older one after a failure",
       {Model({V(3, kFailed), V(2, kDiscovered), V(1, kDiscovered)})},
       {Do(Kind::kVerify, 2)}},
      {"nothing when all have failed", {Model({V(3, kFailed), V(2, kFailed)})}, {}},
      {"verified is loaded", {Model({Ready(1, kVerifying)})}, {Do(Kind::kLoad, 1)}},
      {"tested is served", {Model({Ready(1, kWarmingUp)})}, {Do(Kind::kPromote, 1)}},
      {"an older one that is ready serves while a newer one may be tried again",
       {Model({FailedUntil(2, kNow), Ready(1, kWarmingUp)})},
       {Do(Kind::kPromote, 1)}},
      {"a version that failed in passing is tried again when its time has come",
       {Model({FailedUntil(2, kNow)})},
       {Do(Kind::kVerify, 2)}},
      {"and not before", {Model({FailedUntil(2, kNow + absl::Seconds(1))})}, {}},
  });
}

TEST(ModelPolicy, OneVerificationOrLoadAtATime) {
  for (const VersionView& busy : {V(1, kVerifying), V(1, kLoading), V(1, kWarmingUp)}) {
    const std::vector<ModelView> models = {Model({busy}), Named("n", {V(7, kDiscovered)})};
    EXPECT_TRUE(NextActions(models, kNow, kMaxDrain).empty());
  }
  Check(
      {{"the first model's turn, and a hopeless one holds nobody back",
        {Named("a", {V(1, kFailed)}), Model({V(1, kDiscovered)}), Named("n", {V(1, kDiscovered)})},
        {Do(Kind::kVerify, 1)}}});
}

TEST(ModelPolicy, NewVersionsAreFollowed) {
  Check({
      {"what serves and is the newest stays", {Model({Serving(3), V(2, kDiscovered)})}, {}},
      {"a newer one is verified", {Model({V(4, kDiscovered), Serving(3)})}, {Do(Kind::kVerify, 4)}},
      {"of several the newest alone",
       {Model({V(6, kDiscovered), V(5, kDiscovered), V(4, kDiscovered), Serving(3)})},
       {Do(Kind::kVerify, 6)}},
      {"another backbone beside it",
       {Model({Ready(4, kVerifying, "B"), Serving(3, "A")})},
       {Do(Kind::kLoad, 4)}},
      {"the same backbone beside it",
       {Model({Ready(4, kVerifying), Serving(3)})},
       {Do(Kind::kLoad, 4)}},
      {"ready, it takes over",
       {Model({Ready(4, kWarmingUp, "B"), Serving(3)})},
       {Do(Kind::kPromote, 4)}},
      {"a newest that failed is not replaced by an older one while something serves",
       {Model({V(5, kFailed), V(4, kDiscovered), Serving(3)})},
       {}},
      {"but tried again when that may help",
       {Model({FailedUntil(5, kNow), V(4, kDiscovered), Serving(3)})},
       {Do(Kind::kVerify, 5)}},
      {"what serves stays when its manifest is gone and only older ones are left",
       {Model({Serving(3), V(1, kDiscovered)})},
       {}},
      {"a released version that is the newest again is loaded again",
       {Model({V(3, kReleased), Serving(1)})},
       {Do(Kind::kVerify, 3)}},
  });
}

TEST(ModelPolicy, FollowModes) {
  constexpr auto kSame = FollowMode::kSameBackbone, kPins = FollowMode::kPinned;
  Check({
      {"same-backbone begins with the newest",
       {Model({V(2, kDiscovered, "B"), V(1, kDiscovered)}, kSame)},
       {Do(Kind::kVerify, 2)}},
      {"same-backbone passes another backbone over",
       {Model({V(4, kDiscovered, "B"), V(3, kDiscovered, "A"), Serving(2, "A")}, kSame)},
       {Do(Kind::kVerify, 3)}},
      {"same-backbone passes manifests over that nobody can read",
       {Model({V(4, kFailed, ""), V(3, kDiscovered, "A"), Serving(2, "A")}, kSame)},
       {Do(Kind::kVerify, 3)}},
      {"same-backbone stays on its backbone",
       {Model({V(4, kDiscovered, "B"), Serving(2, "A")}, kSame)},
       {}},
      {"pinned takes nothing without a pin", {Model({V(1, kDiscovered)}, kPins)}, {}},
      {"pinned keeps what serves", {Model({V(2, kDiscovered), Serving(1)}, kPins)}, {}},
      {"pinned follows the pin",
       {Model({V(2, kDiscovered), V(1, kDiscovered)}, kPins, 1)},
       {Do(Kind::kVerify, 1)}},
      {"pinned drops what was begun under a pin that is gone",
       {Model({Ready(1, kWarmingUp)}, kPins)},
       {Do(Kind::kRelease, 1)}},
  });
}

TEST(ModelPolicy, Pins) {
  Check({
      {"a pin rolls back to a version that was released",
       {Pinned(1, {Serving(3), V(2, kReleased), V(1, kReleased)})},
       {Do(Kind::kVerify, 1)}},
      {"a pin rolls back to the kept version at once",
       {Pinned(1, {Serving(2, "B"), Kept(1, "A")})},
       {Do(Kind::kPromote, 1)}},
      {"a pin rolls back to a draining version at once",
       {Pinned(1, {Serving(2), Draining(1, "A", absl::Seconds(1))})},
       {Do(Kind::kPromote, 1)}},
      {"one whose streams were told to end is let go first",
       {Pinned(1, {Serving(2), Ending(1, "A")})},
       {}},
      {"and loaded again after that",
       {Pinned(1, {Serving(2), Ending(1, "A", /*in_use=*/false)})},
       {Do(Kind::kRelease, 1)}},
      {"newer versions wait for the pin to go", {Pinned(1, {V(2, kDiscovered), Serving(1)})}, {}},
      {"without the pin the newest is followed",
       {Model({V(2, kReleased), Serving(1)})},
       {Do(Kind::kVerify, 2)}},
      {"a pinned version that failed leaves what serves",
       {Pinned(2, {V(3, kDiscovered), V(2, kFailed), Serving(1)})},
       {}},
      {"no other is served in place of a pinned one",
       {Pinned(2, {V(3, kDiscovered), V(2, kFailed), V(1, kDiscovered)})},
       {}},
      {"a pin of a version that is not there changes nothing",
       {Pinned(9, {V(2, kDiscovered), Serving(1)})},
       {}},
      {"what was made ready for another target is dropped",
       {Pinned(1, {Ready(2, kWarmingUp), Serving(1)})},
       {Do(Kind::kRelease, 2)}},
      {"what serves nobody does not come before a pin",
       {Pinned(1, {Ready(2, kWarmingUp), V(1, kDiscovered)})},
       {Do(Kind::kRelease, 2)}},
      {"a pin that cannot be read freezes: nothing new",
       {UnreadablePin({V(2, kDiscovered), Serving(1)})},
       {}},
      {"a pin that cannot be read freezes: nothing at the start either",
       {UnreadablePin({V(2, kDiscovered)})},
       {}},
      {"a pin that cannot be read drops what was begun",
       {UnreadablePin({Ready(2, kWarmingUp)})},
       {Do(Kind::kRelease, 2)}},
  });
}

TEST(ModelPolicy, DrainingVersions) {
  constexpr absl::Duration kBrief = absl::Seconds(1), kLong = absl::Hours(1);
  Check({
      {"is let go when nobody holds it",
       {Model({Serving(2), Draining(1, "A", kBrief, /*in_use=*/false)})},
       {Do(Kind::kRelease, 1)}},
      {"may finish its streams as long as it likes while nobody waits",
       {Model({Serving(2), Draining(1, "A", kLong)})},
       {}},
      {"is kept for its backbone's states although nobody holds it",
       {Model({Serving(2, "B"), Kept(1, "A")})},
       {}},
      {"a third of the same backbone waits",
       {Model({Ready(3, kVerifying), Serving(2), Draining(1, "A", kBrief)})},
       {}},
      {"newer ones replace the waiting one",
       {Model({V(4, kDiscovered), Ready(3, kVerifying), Serving(2), Draining(1, "A", kBrief)})},
       {Do(Kind::kForget, 3), Do(Kind::kVerify, 4)}},
      {"after max_drain the oldest's streams are ended",
       {Model({Ready(3, kVerifying), Serving(2), Draining(1, "A", kMaxDrain)})},
       {Do(Kind::kEndStreams, 1)}},
      {"once", {Model({Ready(3, kVerifying), Serving(2), Ending(1, "A")})}, {}},
      {"then it is let go",
       {Model({Ready(3, kVerifying), Serving(2), Ending(1, "A", /*in_use=*/false)})},
       {Do(Kind::kRelease, 1)}},
      {"and the third loads",
       {Model({Ready(3, kVerifying), Serving(2), V(1, kReleased)})},
       {Do(Kind::kLoad, 3)}},
      {"a third backbone takes the place of the kept one",
       {Model({Ready(3, kVerifying, "C"), Serving(2, "B"), Kept(1, "A")})},
       {Do(Kind::kRetire, 1)}},
      {"but not before it is verified",
       {Model({V(3, kDiscovered, "C"), Serving(2, "B"), Kept(1, "A")})},
       {Do(Kind::kVerify, 3)}},
      {"and waits for its streams",
       {Model({Ready(3, kVerifying, "C"), Serving(2, "B"), Draining(1, "A", kBrief)})},
       {}},
      {"no longer than max_drain after its last call",
       {Model({Ready(3, kVerifying, "C"), Serving(2, "B"), Draining(1, "A", kMaxDrain)})},
       {Do(Kind::kEndStreams, 1)}},
      {"a third backbone waits for every version of the first",
       {Model({Ready(4, kVerifying, "C"), Serving(3, "B"), Kept(2, "A", /*in_use=*/true),
               Draining(1, "A", kMaxDrain)})},
       {Do(Kind::kRetire, 2), Do(Kind::kEndStreams, 1)}},
      {"a bundle of the serving backbone does not cost the kept one its place",
       {Model({Ready(3, kVerifying, "B"), Serving(2, "B"), Kept(1, "A", /*in_use=*/true)})},
       {Do(Kind::kLoad, 3)}},
      {"a bundle of the kept backbone shares with it",
       {Model({Ready(3, kVerifying, "A"), Serving(2, "B"), Kept(1, "A")})},
       {Do(Kind::kLoad, 3)}},
      {"streams of a replaced version do not hold up another backbone's first bundle",
       {Model({Ready(3, kVerifying, "B"), Serving(2, "A"), Draining(1, "A", kBrief)})},
       {Do(Kind::kLoad, 3)}},
  });
}

TEST(ModelPolicy, TheNextDeadlineIsARetryOrTheEndOfADrain) {
  const std::vector<ModelView> models = {
      Model({FailedUntil(5, kNow + absl::Seconds(20)), Serving(4, "A"),
             Draining(3, "A", absl::Seconds(50)), Kept(2, "B"), V(1, kFailed)})};
  EXPECT_EQ(NextDeadline(models, kNow, kMaxDrain), kNow + absl::Seconds(10));
  EXPECT_EQ(NextDeadline(models, kNow + absl::Seconds(10), kMaxDrain), kNow + absl::Seconds(20));
  EXPECT_EQ(NextDeadline(models, kNow + absl::Seconds(20), kMaxDrain), absl::InfiniteFuture());
}

// Any order of publications, pins, ends of streams, failures and passing time, acted on as the host
// acts: what rule 2 promises holds at every moment, one version serves from the first on, and when
// nothing is left to happen the wanted one serves.
TEST(ModelPolicy, RandomLivesNeverBreakTheLimits) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    std::mt19937 random(seed);
    const auto chance = [&](uint32_t of) { return random() % of == 0; };
    ModelView model = Model({});
    absl::Time now = kNow;
    const auto find = [&](int64_t version) -> VersionView& {
      return *std::find_if(model.versions.begin(), model.versions.end(),
                           [&](const VersionView& v) { return v.version == version; });
    };
    const auto act = [&](const Action& action) {
      VersionView& version = find(action.version);
      switch (action.kind) {
        case Kind::kVerify:
          version.state = kVerifying;
          version.ready = false;
          break;
        case Kind::kForget:
          version.state = kDiscovered;
          break;
        case Kind::kLoad:
          version.state = kLoading;
          version.ready = false;
          break;
        case Kind::kPromote:
          for (VersionView& other : model.versions) {
            if (other.state == kServing) {
              other.state = kDraining;
              other.kept = other.backbone != version.backbone;
              other.drains_since = now;
            } else if (other.state == kDraining && other.kept &&
                       other.backbone == version.backbone) {
              other.kept = false;
              other.drains_since = now;
            }
          }
          version.state = kServing;
          version.kept = version.ending = false;
          version.in_use = true;
          break;
        case Kind::kRetire:
          version.kept = false;
          version.drains_since = now;
          break;
        case Kind::kEndStreams:
          version.ending = true;
          break;
        case Kind::kRelease:
          EXPECT_TRUE(version.state == kWarmingUp || !version.in_use);
          version.state = kReleased;
          version.kept = version.ending = false;
          break;
      }
    };
    const auto settle = [&] {
      for (int i = 0; i < 100; ++i) {
        const auto actions = NextActions(std::span(&model, 1), now, kMaxDrain);
        if (actions.empty()) return;
        for (const Action& action : actions) act(action);
      }
      ADD_FAILURE() << "never settles, seed " << seed;
    };
    const auto finish_work = [&](bool may_fail) {
      for (VersionView& version : model.versions) {
        const bool failed = may_fail && chance(4);
        if (version.state == kVerifying && !version.ready) {
          failed ? void(version.state = kFailed) : void(version.ready = true);
        } else if (version.state == kLoading) {
          version.state = failed ? kFailed : kWarmingUp;
          version.ready = version.state == kWarmingUp;
        } else {
          continue;
        }
        version.retry_at = failed && chance(2) ? now + absl::Seconds(5) : absl::InfiniteFuture();
      }
    };
    bool served = false;
    const auto check = [&] {
      std::set<std::string> backbones;
      std::map<std::string, int> live;
      int serving = 0;
      for (const VersionView& version : model.versions) {
        serving += version.state == kServing;
        if (version.state != kServing && version.state != kDraining) continue;
        backbones.insert(version.backbone);
        ++live[version.backbone];
      }
      EXPECT_LE(backbones.size(), 2u) << "seed " << seed;
      for (const auto& [backbone, number] : live) EXPECT_LE(number, 2) << "seed " << seed;
      EXPECT_LE(serving, 1);
      served |= serving == 1;
      EXPECT_EQ(serving == 1, served) << "seed " << seed;
    };
    for (int step = 0; step < 200; ++step) {
      if (chance(4)) {
        const std::string backbones[] = {"A", "B", "C"};
        model.versions.insert(model.versions.begin(),
                              V(static_cast<int64_t>(model.versions.size()) + 1, kDiscovered,
                                backbones[random() % 3]));
      }
      if (chance(10)) {
        model.pinned.reset();
        if (!model.versions.empty() && chance(2)) {
          model.pinned = 1 + static_cast<int64_t>(random() % model.versions.size());
        }
      }
      for (VersionView& version : model.versions) {
        if (version.state == kDraining && version.in_use && (version.ending || chance(6))) {
          version.in_use = false;
        } else if (version.state == kDraining && version.kept) {
          version.in_use = chance(2);
        }
      }
      if (chance(2)) finish_work(/*may_fail=*/true);
      now += absl::Seconds(random() % 30);
      settle();
      check();
    }
    for (int step = 0; step < 50; ++step) {
      finish_work(/*may_fail=*/false);
      for (VersionView& version : model.versions) {
        if (version.state == kDraining && (!version.kept || version.ending)) version.in_use = false;
      }
      now += absl::Minutes(1);
      settle();
      check();
    }
    EXPECT_EQ(Wanted(model, now), std::nullopt) << "seed " << seed;
  }
}

TEST(ModelPolicy, FailuresThatMayPassAreTriedAgainEverLater) {
  EXPECT_TRUE(IsPassing(absl::StatusCode::kResourceExhausted));
  EXPECT_TRUE(IsPassing(absl::StatusCode::kUnknown));  // EIO
  EXPECT_TRUE(IsPassing(absl::StatusCode::kPermissionDenied));
  EXPECT_FALSE(IsPassing(absl::StatusCode::kDataLoss));
  EXPECT_FALSE(IsPassing(absl::StatusCode::kInvalidArgument));
  EXPECT_FALSE(IsPassing(absl::StatusCode::kFailedPrecondition));
  const absl::Duration first = absl::Seconds(5), most = absl::Minutes(1);
  EXPECT_EQ(RetryDelay(1, first, most), absl::Seconds(5));
  EXPECT_EQ(RetryDelay(2, first, most), absl::Seconds(10));
  EXPECT_EQ(RetryDelay(4, first, most), absl::Seconds(40));
  EXPECT_EQ(RetryDelay(5, first, most), most);
  EXPECT_EQ(RetryDelay(1'000'000, first, most), most);
}

TEST(ModelPolicy, StatesAndModesHaveNames) {
  EXPECT_EQ(VersionStateName(kDiscovered), "discovered");
  EXPECT_EQ(VersionStateName(kWarmingUp), "warming up");
  EXPECT_EQ(VersionStateName(kFailed), "failed");
  for (const FollowMode mode : {FollowMode::kAll, FollowMode::kSameBackbone, FollowMode::kPinned}) {
    EXPECT_EQ(*ParseFollowMode(FollowModeName(mode)), mode);
  }
  EXPECT_THAT(std::string(ParseFollowMode("some").status().message()),
              ::testing::HasSubstr("all, same-backbone or pinned"));
}

}  // namespace
}  // namespace dreamstate::server
