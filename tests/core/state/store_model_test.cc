// Random operations on the store and on a model that is obviously right; after each the store's
// indexes must agree with its rows, and what it answers with the model.
#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "core/base/status.h"
#include "gtest/gtest.h"
#include "tests/core/state/store_fixture.h"

namespace dreamstate::state {
namespace {

using ::dreamstate::testing::Difference;
using ::dreamstate::testing::ListAll;
using ::dreamstate::testing::MakeRecord;
using ::dreamstate::testing::StoreFixture;

struct Modelled {
  Record record;
  std::vector<std::string> labels;
  std::optional<absl::Time> expires;
  std::string etag;
  bool deleted = false;
};

class Model {
 public:
  using Key = std::pair<std::string, std::string>;  // tenant, id
  std::map<Key, Modelled> states;

  bool Live(const Key& key, absl::Time now) const {
    const auto found = states.find(key);
    if (found == states.end() || found->second.deleted) return false;
    return !found->second.expires.has_value() || *found->second.expires > now;
  }
  void Remove(const Key& key) {
    if (HasChildren(key)) {
      states[key].deleted = true;
      states[key].expires.reset();
      return;
    }
    const std::vector<std::string> parents = states[key].record.lineage.parents;
    states.erase(key);
    for (const std::string& parent : parents) {
      const Key above(key.first, parent);
      if (states.count(above) > 0 && states[above].deleted && !HasChildren(above)) Remove(above);
    }
  }

 private:
  bool HasChildren(const Key& key) const {
    return std::any_of(states.begin(), states.end(), [&](const auto& entry) {
      const auto& parents = entry.second.record.lineage.parents;
      return entry.first.first == key.first &&
             std::count(parents.begin(), parents.end(), key.second) > 0;
    });
  }
};

class RandomOperations {
 public:
  RandomOperations(StoreFixture* fixture, uint64_t seed) : fixture_(*fixture), random_(seed) {}

  void Step() {
    switch (Below(12)) {
      case 0:
      case 1:
      case 2:
        return Put();
      case 3:
        return Get();
      case 4:
        return Update();
      case 5:
      case 6:
        return Delete();
      case 7:
        return fixture_.clock.Advance(absl::Minutes(Below(20)));
      case 8:
        return Sweep();
      case 9:
        return Describe();
      case 10:
        return List();
      case 11:
        if (Below(8) == 0) fixture_.Reopen();
    }
  }
  const Model& model() const { return model_; }

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }
  std::string Tenant() { return Below(3) == 0 ? "ab" : "a"; }
  absl::Time now() const { return fixture_.clock.Now(); }
  StateStore& store() { return *fixture_.store; }

  // A known state, now and then one that is not there.
  Model::Key Pick() {
    if (model_.states.empty() || Below(20) == 0) return {Tenant(), "01hf7yat00abcdefghjkmnpqrs"};
    auto entry = model_.states.begin();
    std::advance(entry, Below(model_.states.size()));
    if (Below(20) == 0) return {entry->first.first == "a" ? "ab" : "a", entry->first.second};
    return entry->first;
  }
  std::vector<std::string> Labels() {
    std::set<std::string> labels;
    for (uint64_t i = Below(4); i > 0; --i) labels.insert("label " + std::to_string(Below(4)));
    return {labels.begin(), labels.end()};
  }
  absl::Duration TimeToLive() {
    return Below(2) == 0 ? absl::ZeroDuration() : absl::Minutes(1 + Below(60));
  }
  std::optional<absl::Time> Expiry(absl::Duration time_to_live) const {
    if (time_to_live == absl::ZeroDuration()) return std::nullopt;
    return now() + time_to_live;
  }

  void Put() {
    const std::string tenant = Tenant();
    Modelled made{.record = MakeRecord(random_()), .labels = Labels()};
    made.record.model = "model " + std::to_string(Below(3));
    made.record.fingerprint = std::string(64, "ab"[Below(2)]);
    for (uint64_t i = Below(3); i > 0; --i) {
      made.record.lineage.parents.push_back(Pick().second);
    }
    const absl::Duration time_to_live = TimeToLive();
    made.expires = Expiry(time_to_live);
    fixture_.clock.Advance(absl::Milliseconds(1));
    if (made.expires.has_value()) *made.expires += absl::Milliseconds(1);
    const auto put =
        store().Put(tenant, made.record, {.labels = made.labels, .time_to_live = time_to_live});
    ASSERT_TRUE(put.ok()) << put.status();
    made.etag = put->etag;
    made.record.id = put->record.id;
    made.record.created = put->record.created;
    model_.states[{tenant, put->record.id}] = made;
  }
  void Get() {
    const Model::Key key = Pick();
    const auto found = store().Get(key.first, key.second);
    ASSERT_EQ(found.ok(), model_.Live(key, now())) << found.status();
    if (found.ok()) {
      ASSERT_EQ(Difference(model_.states[key].record, **found), "");
    } else {
      ASSERT_TRUE(absl::IsNotFound(found.status())) << found.status();
    }
  }
  void Describe() {
    const Model::Key key = Pick();
    const auto found = store().Describe(key.first, key.second);
    const auto modelled = model_.states.find(key);
    const bool stub = modelled != model_.states.end() && modelled->second.deleted;
    ASSERT_EQ(found.ok(), stub || model_.Live(key, now())) << found.status();
    if (!found.ok()) return;
    ASSERT_EQ(found->deleted, stub);
    if (stub) return;
    ASSERT_EQ(found->labels, modelled->second.labels);
    ASSERT_EQ(found->expires, modelled->second.expires);
    ASSERT_EQ(found->etag, modelled->second.etag);
  }
  void Update() {
    const Model::Key key = Pick();
    const auto modelled = model_.states.find(key);
    std::string etag;
    if (Below(2) == 0 && modelled != model_.states.end()) etag = modelled->second.etag;
    const bool stale = Below(5) == 0;
    if (stale) etag = "never";
    std::optional<std::vector<std::string>> labels;
    if (Below(2) == 0) labels = Labels();
    std::optional<absl::Duration> time_to_live;
    if (Below(2) == 0) time_to_live = TimeToLive();
    const auto updated = store().Update(key.first, key.second, etag, labels, time_to_live);
    if (!model_.Live(key, now())) {
      ASSERT_TRUE(absl::IsNotFound(updated.status())) << updated.status();
    } else if (stale) {
      ASSERT_TRUE(absl::IsAborted(updated.status())) << updated.status();
    } else {
      ASSERT_TRUE(updated.ok()) << updated.status();
      if (labels.has_value()) modelled->second.labels = *labels;
      if (time_to_live.has_value()) modelled->second.expires = Expiry(*time_to_live);
      ASSERT_NE(updated->etag, modelled->second.etag);
      modelled->second.etag = updated->etag;
    }
  }
  void Delete() {
    const Model::Key key = Pick();
    const absl::Status deleted = store().Delete(key.first, key.second, "");
    ASSERT_EQ(deleted.ok(), model_.Live(key, now())) << deleted;
    if (deleted.ok()) model_.Remove(key);
  }
  void Sweep() {
    std::vector<std::pair<absl::Time, Model::Key>> expired;
    for (const auto& [key, modelled] : model_.states) {
      if (!modelled.deleted && !model_.Live(key, now())) {
        expired.emplace_back(*modelled.expires, key);
      }
    }
    // Of equal expiries any may go first, so all go.
    const auto swept = store().SweepExpired(1'000'000);
    ASSERT_TRUE(swept.ok()) << swept.status();
    ASSERT_EQ(*swept, static_cast<int>(expired.size()));
    for (const auto& [time, key] : expired) model_.Remove(key);
  }
  void List() {
    const std::string tenant = Tenant();
    ListQuery query;
    if (Below(3) == 0) query.model = "model 1";
    if (Below(3) == 0) query.fingerprint = std::string(64, 'a');
    if (Below(3) == 0) query.parent = Pick().second;
    for (const char* label : {"label 0", "label 2"}) {
      if (Below(3) == 0) query.labels.push_back(label);
    }
    if (Below(3) == 0) query.created_before = now() - absl::Minutes(Below(60));
    query.stubs = !query.parent.empty() && query.labels.empty() && query.model.empty() &&
                  query.fingerprint.empty() && Below(2) == 0;
    query.oldest_first = Below(2) == 0;
    query.page_size = static_cast<int>(1 + Below(10));
    std::vector<std::string> expected;
    for (const auto& [key, modelled] : model_.states) {
      const auto& parents = modelled.record.lineage.parents;
      const bool shown = model_.Live(key, now()) || (query.stubs && modelled.deleted);
      if (key.first != tenant || !shown) continue;
      if (modelled.record.created >= query.created_before) continue;
      if (!query.model.empty() && modelled.record.model != query.model) continue;
      if (!query.fingerprint.empty() && modelled.record.fingerprint != query.fingerprint) continue;
      if (!query.parent.empty() && std::count(parents.begin(), parents.end(), query.parent) == 0) {
        continue;
      }
      if (!std::includes(modelled.labels.begin(), modelled.labels.end(), query.labels.begin(),
                         query.labels.end())) {
        continue;
      }
      expected.push_back(key.second);
    }
    if (!query.oldest_first) std::reverse(expected.begin(), expected.end());
    ASSERT_EQ(ListAll(store(), tenant, query), expected);
  }

  StoreFixture& fixture_;
  std::mt19937_64 random_;
  Model model_;
};

class StoreModel : public ::testing::TestWithParam<bool> {};
INSTANTIATE_TEST_SUITE_P(, StoreModel, ::testing::Values(false, true), [](const auto& parameter) {
  return parameter.param ? "Pooled" : "Plain";
});

TEST_P(StoreModel, AgreesWithASimpleModelAfterEveryRandomOperation) {
  StoreFixture fixture(GetParam());
  RandomOperations operations(&fixture, 20240607);
  for (int step = 0; step < 500; ++step) {
    operations.Step();
    ASSERT_FALSE(::testing::Test::HasFatalFailure()) << "step " << step;
    const absl::Status invariants = fixture.rocksdb->CheckInvariants();
    ASSERT_TRUE(invariants.ok()) << "step " << step << ": " << invariants;
  }
  EXPECT_GT(operations.model().states.size(), 5u);
}

}  // namespace
}  // namespace dreamstate::state
