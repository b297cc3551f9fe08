// What every StateStore promises, for the plain store and under a pool.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <thread>

#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/core/state/store_fixture.h"

namespace dreamstate::state {
namespace {

using ::dreamstate::testing::Difference;
using ::dreamstate::testing::kTenant;
using ::dreamstate::testing::ListAll;
using ::dreamstate::testing::MakeRecord;
using ::dreamstate::testing::StoreFixture;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kNoSuchId[] = "01hf7yat00abcdefghjkmnpqrs";

class StoreContract : public ::testing::TestWithParam<bool> {
 protected:
  void TearDown() override {
    if (fixture_.store != nullptr) {
      EXPECT_TRUE(fixture_.rocksdb->CheckInvariants().ok()) << fixture_.rocksdb->CheckInvariants();
    }
  }
  StateStore& store() { return *fixture_.store; }
  StoreFixture fixture_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(, StoreContract, ::testing::Values(false, true),
                         [](const auto& parameter) {
                           return parameter.param ? "Pooled" : "Plain";
                         });

TEST_P(StoreContract, GetReturnsWhatPutWasGivenToTheBitAlsoAfterReopening) {
  Record record = MakeRecord(1);
  record.state.wkv[0] = -0.0f;
  record.state.wkv[1] = std::numeric_limits<float>::denorm_min();
  record.state.shift[3] = -std::numeric_limits<float>::min();
  const std::string id = fixture_.Put(record);
  for (int opening = 0; opening < 3; ++opening) {
    const auto found = store().Get(kTenant, id);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ(Difference(record, **found), "");
    EXPECT_EQ((*found)->id, id);
    EXPECT_EQ((*found)->created, fixture_.clock.Now());
    fixture_.Reopen();
  }
}

TEST_P(StoreContract, DescribeTellsEverythingButTheTensors) {
  Record record = MakeRecord(2);
  record.lineage.parents = {kNoSuchId};
  const auto put =
      store().Put(kTenant, record, {.labels = {"b", "a", "b"}, .time_to_live = absl::Hours(1)});
  ASSERT_TRUE(put.ok()) << put.status();
  const auto found = store().Describe(kTenant, put->record.id);
  ASSERT_TRUE(found.ok()) << found.status();
  for (const Description& description : {*put, *found}) {
    EXPECT_EQ(description.record.model, "tiny");
    EXPECT_EQ(description.record.fingerprint, record.fingerprint);
    EXPECT_EQ(description.record.numerics, record.numerics);
    EXPECT_EQ(description.record.token_count, 2);
    EXPECT_EQ(description.record.created, fixture_.clock.Now());
    EXPECT_EQ(description.record.lineage.parents, record.lineage.parents);
    EXPECT_EQ(description.record.lineage.arguments, record.lineage.arguments);
    EXPECT_EQ(description.record.state.shape, record.state.shape);
    EXPECT_THAT(description.record.state.shift, IsEmpty());
    EXPECT_THAT(description.record.state.wkv, IsEmpty());
    EXPECT_THAT(description.record.last_hidden, IsEmpty());
    EXPECT_THAT(description.record.lineage.kept_tokens, IsEmpty());
    EXPECT_TRUE(description.has_last_hidden);
    EXPECT_EQ(description.bytes, record.state.shape.bytes() + 8 * 4);
    EXPECT_THAT(description.labels, ElementsAre("a", "b"));
    EXPECT_EQ(description.expires, fixture_.clock.Now() + absl::Hours(1));
    EXPECT_FALSE(description.deleted);
    EXPECT_EQ(description.etag, put->etag);
  }
}

TEST_P(StoreContract, PutRefusesWhatIsNoState) {
  const auto field_of = [this](const std::function<void(Record&, Annotations&)>& change) {
    Record record = MakeRecord(3);
    Annotations annotations;
    change(record, annotations);
    const absl::Status status = store().Put(kTenant, record, annotations).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    return DetailsOf(status).field.value_or("none");
  };
  EXPECT_EQ(field_of([](Record& r, Annotations&) { r.state.wkv[9] = NAN; }), "state.wkv");
  EXPECT_EQ(field_of([](Record& r, Annotations&) { r.state.shift.clear(); }), "state.shift");
  EXPECT_EQ(field_of([](Record& r, Annotations&) { r.lineage.parents = {"x"}; }),
            "lineage.parents[0]");
  EXPECT_EQ(field_of([](Record&, Annotations& a) { a.labels = {"ok", ""}; }), "labels[1]");
  EXPECT_EQ(field_of([](Record&, Annotations& a) { a.time_to_live = -absl::Seconds(1); }),
            "time_to_live");
  EXPECT_EQ(store().Stats().states, 0);
}

TEST_P(StoreContract, UnknownNamesAreNotFound) {
  for (const std::string& id : {std::string(kNoSuchId), std::string(""), std::string("\0\xff", 2),
                                std::string(26, '/'), std::string(100'000, 'a')}) {
    EXPECT_TRUE(absl::IsNotFound(store().Get(kTenant, id).status()));
    EXPECT_TRUE(absl::IsNotFound(store().Describe(kTenant, id).status()));
    EXPECT_TRUE(absl::IsNotFound(store().Update(kTenant, id, "", {}, {}).status()));
    EXPECT_TRUE(absl::IsNotFound(store().Delete(kTenant, id, "")));
  }
  const absl::Status status = store().Get(kTenant, kNoSuchId).status();
  ASSERT_TRUE(DetailsOf(status).resource.has_value());
  EXPECT_EQ(DetailsOf(status).resource->name, std::string("states/") + kNoSuchId);
}

TEST_P(StoreContract, ATenantSeesOnlyItsOwn) {
  // Names chosen so that careless keys would mix.
  const std::vector<std::string> tenants = {"a",
                                            "ab",
                                            "",
                                            std::string("a\0", 2),
                                            std::string("\0\0\0\1a", 5),
                                            "\xff\xff",
                                            std::string(200, 'a')};
  std::map<std::string, std::string> ids;
  for (size_t i = 0; i < tenants.size(); ++i) {
    Record record = MakeRecord(i);
    record.lineage.parents = {kNoSuchId};
    ids[tenants[i]] = fixture_.Put(record, {.labels = {"x"}}, tenants[i]);
  }
  for (const std::string& tenant : tenants) {
    for (const ListQuery& query :
         {ListQuery{}, ListQuery{.model = "tiny"}, ListQuery{.labels = {"x"}},
          ListQuery{.parent = kNoSuchId}, ListQuery{.fingerprint = std::string(64, 'a')},
          ListQuery{.oldest_first = true}}) {
      EXPECT_THAT(ListAll(store(), tenant, query), ElementsAre(ids[tenant]));
    }
    for (const auto& [owner, id] : ids) {
      if (owner == tenant) continue;
      EXPECT_TRUE(absl::IsNotFound(store().Get(tenant, id).status()));
      EXPECT_TRUE(absl::IsNotFound(store().Describe(tenant, id).status()));
      EXPECT_TRUE(absl::IsNotFound(
          store().Update(tenant, id, "", std::vector<std::string>{"y"}, {}).status()));
      EXPECT_TRUE(absl::IsNotFound(store().Delete(tenant, id, "")));
      EXPECT_TRUE(store().Get(owner, id).ok());
    }
  }
  const auto page = store().List("a", {.page_size = 1});
  fixture_.Put(MakeRecord(9), {}, "a");
  const auto first = store().List("a", {.page_size = 1});
  ASSERT_FALSE(first->next_page_token.empty());
  const auto foreign = store().List("ab", {.page_size = 1, .page_token = first->next_page_token});
  EXPECT_EQ(DetailsOf(foreign.status()).field, "page_token");
}

TEST_P(StoreContract, UpdateReplacesWhatIsGivenAndMovesTheEtag) {
  const auto put = store().Put(kTenant, MakeRecord(4), {.labels = {"old"}});
  const std::string id = put->record.id;
  const auto labelled =
      store().Update(kTenant, id, put->etag, std::vector<std::string>{"z", "new", "new"}, {});
  ASSERT_TRUE(labelled.ok()) << labelled.status();
  EXPECT_THAT(labelled->labels, ElementsAre("new", "z"));
  EXPECT_EQ(labelled->expires, std::nullopt);
  EXPECT_NE(labelled->etag, put->etag);
  EXPECT_THAT(ListAll(store(), kTenant, {.labels = {"old"}}), IsEmpty());
  EXPECT_THAT(ListAll(store(), kTenant, {.labels = {"new"}}), ElementsAre(id));

  const absl::Status stale =
      store().Update(kTenant, id, put->etag, std::vector<std::string>{"lost"}, {}).status();
  EXPECT_TRUE(absl::IsAborted(stale)) << stale;
  EXPECT_TRUE(absl::IsAborted(store().Delete(kTenant, id, put->etag)));

  const auto timed = store().Update(kTenant, id, "", {}, absl::Minutes(5));
  EXPECT_THAT(timed->labels, ElementsAre("new", "z"));
  EXPECT_EQ(timed->expires, fixture_.clock.Now() + absl::Minutes(5));
  const auto kept = store().Update(kTenant, id, timed->etag, {}, absl::ZeroDuration());
  EXPECT_EQ(kept->expires, std::nullopt);
  EXPECT_EQ(store().Describe(kTenant, id)->etag, kept->etag);
  EXPECT_EQ(
      DetailsOf(store().Update(kTenant, id, "", std::vector<std::string>{"\n"}, {}).status()).field,
      "labels[0]");
  EXPECT_TRUE(store().Delete(kTenant, id, kept->etag).ok());
}

TEST_P(StoreContract, ConcurrentUpdatesWithOneEtagLetOneThrough) {
  const auto put = store().Put(kTenant, MakeRecord(5), {});
  std::atomic<int> won{0};
  std::atomic<int> aborted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const auto updated = store().Update(kTenant, put->record.id, put->etag,
                                          std::vector<std::string>{"by " + std::to_string(i)}, {});
      if (updated.ok()) ++won;
      if (absl::IsAborted(updated.status())) ++aborted;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(won, 1);
  EXPECT_EQ(aborted, 7);
}

TEST_P(StoreContract, ConcurrentDeletesOfOneStateLetOneThrough) {
  const std::string id = fixture_.Put(6);
  std::atomic<int> deleted{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] { deleted += store().Delete(kTenant, id, "").ok() ? 1 : 0; });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(deleted, 1);
  EXPECT_EQ(store().Stats().states, 0);
}

TEST_P(StoreContract, ListsByEveryFilterInBothOrders) {
  std::map<std::string, Record> records;
  std::map<std::string, std::vector<std::string>> labels;
  std::vector<std::string> ids;
  for (int i = 0; i < 60; ++i) {
    Record record = MakeRecord(i);
    record.model = i % 2 == 0 ? "even" : "odd";
    record.fingerprint = std::string(64, "abc"[i % 3]);
    if (i > 10) record.lineage.parents = {ids[i % 5]};
    std::vector<std::string> own = {"all"};
    if (i % 4 == 0) own.push_back("four");
    if (i % 7 == 0) own.push_back("seven");
    ids.push_back(fixture_.Put(record, {.labels = own}));
    records[ids.back()] = record;
    labels[ids.back()] = own;
    if (i % 9 == 0) fixture_.clock.Advance(absl::Milliseconds(1));
  }
  for (int choice = 0; choice < 64; ++choice) {
    ListQuery query;
    if (choice & 1) query.model = "odd";
    if (choice & 2) query.fingerprint = std::string(64, 'b');
    if (choice & 4) query.parent = ids[3];
    if (choice & 8) query.labels = {"four", "all"};
    if (choice & 16) query.labels.push_back("seven");
    query.oldest_first = (choice & 32) != 0;
    std::vector<std::string> expected;
    for (const std::string& id : ids) {
      const Record& record = records[id];
      const auto& own = labels[id];
      const auto& parents = record.lineage.parents;
      if (!query.model.empty() && record.model != query.model) continue;
      if (!query.fingerprint.empty() && record.fingerprint != query.fingerprint) continue;
      if (!query.parent.empty() && std::count(parents.begin(), parents.end(), query.parent) == 0) {
        continue;
      }
      if (!std::all_of(query.labels.begin(), query.labels.end(), [&](const std::string& label) {
            return std::count(own.begin(), own.end(), label) > 0;
          })) {
        continue;
      }
      expected.push_back(id);
    }
    if (!query.oldest_first) std::reverse(expected.begin(), expected.end());
    for (const int page_size : {1, 3, 100}) {
      query.page_size = page_size;
      EXPECT_EQ(ListAll(store(), kTenant, query), expected) << choice << " " << page_size;
    }
  }
  EXPECT_THAT(ListAll(store(), kTenant, {.model = "none"}), IsEmpty());
  EXPECT_THAT(ListAll(store(), kTenant, {.labels = {"all", "none"}}), IsEmpty());
  EXPECT_THAT(ListAll(store(), kTenant, {.parent = "no id at all"}), IsEmpty());
}

TEST_P(StoreContract, PagesOfLargeDescriptionsEndEarlyAndLoseNone) {
  std::vector<std::string> ids;
  for (uint64_t seed = 0; seed < 6; ++seed) {
    Record record = MakeRecord(seed);
    record.lineage.arguments["text"] = std::string(seed == 3 ? 5 << 20 : 1 << 20, 'x');
    ids.insert(ids.begin(), fixture_.Put(record));
  }
  const auto page = store().List(kTenant, {});
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_LT(page->states.size(), 6u);
  EXPECT_EQ(ListAll(store(), kTenant, {}), ids);
}

TEST_P(StoreContract, ListsWhatWasMadeBeforeATime) {
  std::vector<std::string> ids;
  std::vector<absl::Time> times;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    times.push_back(fixture_.clock.Now());
    ids.push_back(fixture_.Put(MakeRecord(seed)));
    fixture_.clock.Advance(absl::Seconds(1));
  }
  const auto before = [&](absl::Time time, int page_size) {
    return ListAll(store(), kTenant, {.created_before = time, .page_size = page_size});
  };
  for (const int page_size : {1, 100}) {
    EXPECT_THAT(before(times[0], page_size), IsEmpty());
    EXPECT_THAT(before(times[2], page_size), ElementsAre(ids[1], ids[0]));
    EXPECT_THAT(before(times[2] + absl::Microseconds(1), page_size),
                ElementsAre(ids[2], ids[1], ids[0]));
    EXPECT_THAT(before(absl::InfinitePast(), page_size), IsEmpty());
  }
}

TEST_P(StoreContract, ChildrenThatAreStubsAreListedWhenAskedFor) {
  const std::string parent = fixture_.Put(1);
  const std::string live = fixture_.PutChild(2, {parent});
  const std::string stub = fixture_.PutChild(3, {parent});
  const std::string grandchild = fixture_.PutChild(4, {stub});
  const std::string gone = fixture_.PutChild(5, {parent});
  for (const std::string& id : {stub, gone}) {
    ASSERT_TRUE(store().Delete(kTenant, id, "").ok());
  }
  for (const int page_size : {1, 100}) {
    EXPECT_THAT(
        ListAll(store(), kTenant, {.parent = parent, .stubs = true, .page_size = page_size}),
        ElementsAre(stub, live));
  }
  EXPECT_THAT(ListAll(store(), kTenant, {.parent = parent}), ElementsAre(live));
  EXPECT_TRUE(store().List(kTenant, {.parent = parent, .stubs = true})->states[0].deleted);
  for (const ListQuery& query :
       {ListQuery{.stubs = true}, ListQuery{.model = "tiny", .parent = parent, .stubs = true},
        ListQuery{.labels = {"a"}, .parent = parent, .stubs = true},
        ListQuery{.parent = parent, .fingerprint = std::string(64, 'a'), .stubs = true}}) {
    EXPECT_EQ(DetailsOf(store().List(kTenant, query).status()).field, "stubs");
  }
}

TEST_P(StoreContract, PagesNeitherLoseNorRepeatOlderStatesWhileOthersAreMade) {
  std::set<std::string> before;
  for (int i = 0; i < 40; ++i) before.insert(fixture_.Put(i));
  for (const bool oldest_first : {false, true}) {
    ListQuery query{.oldest_first = oldest_first, .page_size = 7};
    std::vector<std::string> seen;
    for (;;) {
      const auto page = store().List(kTenant, query);
      ASSERT_TRUE(page.ok()) << page.status();
      for (const Description& found : page->states) seen.push_back(found.record.id);
      if (page->next_page_token.empty()) break;
      query.page_token = page->next_page_token;
      if (seen.size() < 40) {
        fixture_.Put(1000 + seen.size());
        fixture_.clock.Advance(absl::Milliseconds(1));
      }
    }
    const std::set<std::string> distinct(seen.begin(), seen.end());
    EXPECT_EQ(distinct.size(), seen.size());
    EXPECT_TRUE(std::includes(distinct.begin(), distinct.end(), before.begin(), before.end()));
  }
}

TEST_P(StoreContract, PagesSurviveTheDeletionOfWhereTheyStopped) {
  std::vector<std::string> ids;
  for (int i = 0; i < 6; ++i) ids.push_back(fixture_.Put(i));
  ListQuery query{.oldest_first = true, .page_size = 2};
  const auto first = store().List(kTenant, query);
  query.page_token = first->next_page_token;
  ASSERT_TRUE(store().Delete(kTenant, ids[1], "").ok());
  ASSERT_TRUE(store().Delete(kTenant, ids[2], "").ok());
  EXPECT_THAT(ListAll(store(), kTenant, query), ElementsAre(ids[3], ids[4], ids[5]));
}

TEST_P(StoreContract, PageTokensOfOtherQueriesAreRefused) {
  for (int i = 0; i < 4; ++i) fixture_.Put(MakeRecord(i), {.labels = {"a", "b"}});
  const ListQuery query{.labels = {"a", "b"}, .page_size = 1};
  const std::string token = store().List(kTenant, query)->next_page_token;
  ASSERT_FALSE(token.empty());
  const auto with_token = [&](ListQuery other) {
    other.page_token = token;
    return store().List(kTenant, other).status();
  };
  EXPECT_TRUE(with_token({.labels = {"b", "a", "a"}, .page_size = 50}).ok());
  for (const ListQuery& other :
       {ListQuery{}, ListQuery{.labels = {"a"}},
        ListQuery{.labels = {"a", "b"}, .oldest_first = true},
        ListQuery{.model = "tiny", .labels = {"a", "b"}},
        ListQuery{.labels = {"a", "b"}, .parent = kNoSuchId},
        ListQuery{.labels = {"a", "b"}, .created_before = absl::FromUnixSeconds(2'000'000'000)},
        ListQuery{.labels = {"a", "b"}, .fingerprint = "x"}}) {
    const absl::Status status = with_token(other);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_EQ(DetailsOf(status).field, "page_token");
  }
  for (const std::string& bad :
       {std::string("x"), token + "=", token.substr(1), token + "AAAA", std::string(1, '\0'),
        std::string(100'000, 'A'), std::string("\xff\xfe")}) {
    ListQuery other = query;
    other.page_token = bad;
    EXPECT_EQ(DetailsOf(store().List(kTenant, other).status()).field, "page_token") << bad;
  }
  EXPECT_EQ(DetailsOf(store().List(kTenant, {.page_size = 0}).status()).field, "page_size");
}

TEST_P(StoreContract, ADeletedParentLeavesAStubUntilItsLastChildGoes) {
  const std::string grandparent = fixture_.Put(1);
  const std::string parent = fixture_.PutChild(2, {grandparent});
  const std::string first = fixture_.PutChild(3, {parent, grandparent});
  const std::string second = fixture_.PutChild(4, {parent, parent});
  ASSERT_TRUE(store().Delete(kTenant, grandparent, "").ok());
  ASSERT_TRUE(store().Delete(kTenant, parent, "").ok());
  for (const std::string& id : {grandparent, parent}) {
    EXPECT_EQ(fixture_.CodeOfGet(id), absl::StatusCode::kNotFound);
    const auto stub = store().Describe(kTenant, id);
    ASSERT_TRUE(stub.ok()) << stub.status();
    EXPECT_TRUE(stub->deleted);
    EXPECT_EQ(stub->record.lineage.operation, "harvest");
    EXPECT_TRUE(absl::IsNotFound(store().Delete(kTenant, id, "")));
    EXPECT_TRUE(absl::IsNotFound(store().Update(kTenant, id, "", {}, absl::Hours(1)).status()));
  }
  EXPECT_THAT(ListAll(store(), kTenant, {}), ElementsAre(second, first));
  EXPECT_THAT(ListAll(store(), kTenant, {.parent = parent}), ElementsAre(second, first));
  EXPECT_THAT(ListAll(store(), kTenant, {.parent = grandparent}), ElementsAre(first));
  EXPECT_EQ(store().Stats().states, 2);
  ASSERT_TRUE(store().Delete(kTenant, first, "").ok());
  EXPECT_TRUE(store().Describe(kTenant, parent).ok());
  EXPECT_TRUE(store().Describe(kTenant, grandparent).ok());  // the stub of `parent` names it
  fixture_.Reopen();
  ASSERT_TRUE(store().Delete(kTenant, second, "").ok());
  EXPECT_TRUE(absl::IsNotFound(store().Describe(kTenant, parent).status()));
  EXPECT_TRUE(absl::IsNotFound(store().Describe(kTenant, grandparent).status()));
}

TEST_P(StoreContract, AStubGoesWhenItsLastChildrenGoAtOnce) {
  for (int round = 0; round < 10; ++round) {
    const std::string parent = fixture_.Put(1);
    std::vector<std::string> children;
    for (int i = 0; i < 4; ++i) children.push_back(fixture_.PutChild(i, {parent}));
    std::vector<std::thread> threads;
    for (const std::string& child : children) {
      threads.emplace_back([&, child] { EXPECT_TRUE(store().Delete(kTenant, child, "").ok()); });
    }
    threads.emplace_back([&] { EXPECT_TRUE(store().Delete(kTenant, parent, "").ok()); });
    for (std::thread& thread : threads) thread.join();
    EXPECT_TRUE(absl::IsNotFound(store().Describe(kTenant, parent).status()));
  }
}

TEST_P(StoreContract, ExpiredStatesAreGoneBeforeTheSweepAndFreedByIt) {
  const std::string kept = fixture_.Put(1);
  const std::string late = fixture_.Put(MakeRecord(2), {.time_to_live = absl::Hours(2)});
  const std::string soon =
      fixture_.Put(MakeRecord(3), {.labels = {"x"}, .time_to_live = absl::Hours(1)});
  ASSERT_TRUE(store().Get(kTenant, soon).ok());
  fixture_.clock.Advance(absl::Hours(1));
  EXPECT_EQ(fixture_.CodeOfGet(soon), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::IsNotFound(store().Describe(kTenant, soon).status()));
  EXPECT_TRUE(absl::IsNotFound(store().Update(kTenant, soon, "", {}, absl::Hours(9)).status()));
  EXPECT_TRUE(absl::IsNotFound(store().Delete(kTenant, soon, "")));
  EXPECT_THAT(ListAll(store(), kTenant, {}), ElementsAre(late, kept));
  EXPECT_THAT(ListAll(store(), kTenant, {.labels = {"x"}}), IsEmpty());
  EXPECT_EQ(store().Stats().states, 3);
  EXPECT_EQ(store().SweepExpired(10).value(), 1);
  EXPECT_EQ(store().SweepExpired(10).value(), 0);
  EXPECT_EQ(store().Stats().states, 2);
  // More time, given before the old time ran out, counts.
  ASSERT_TRUE(store().Update(kTenant, late, "", {}, absl::Hours(5)).ok());
  fixture_.clock.Advance(absl::Hours(4));
  EXPECT_EQ(store().SweepExpired(10).value(), 0);
  EXPECT_TRUE(store().Get(kTenant, late).ok());
  fixture_.clock.Advance(absl::Hours(1));
  EXPECT_EQ(fixture_.CodeOfGet(late), absl::StatusCode::kNotFound);
  EXPECT_EQ(store().SweepExpired(10).value(), 1);
  EXPECT_TRUE(store().Get(kTenant, kept).ok());
}

TEST_P(StoreContract, TheSweepTakesTheSoonestFirstAndNoMoreThanAsked) {
  std::vector<std::string> ids;
  for (int i = 0; i < 5; ++i) {
    const std::string tenant = i % 2 == 0 ? "a" : "b";
    ids.push_back(fixture_.Put(MakeRecord(i), {.time_to_live = absl::Hours(5 - i)}, tenant));
  }
  const std::string child = fixture_.PutChild(9, {ids[4]});
  fixture_.clock.Advance(absl::Hours(3) + absl::Minutes(30));
  EXPECT_EQ(store().SweepExpired(2).value(), 2);
  EXPECT_EQ(store().Stats().states, 4);
  EXPECT_EQ(store().SweepExpired(0).value(), 0);
  EXPECT_EQ(store().SweepExpired(-1).value(), 0);
  EXPECT_EQ(store().SweepExpired(100).value(), 1);
  EXPECT_TRUE(store().Get("b", ids[1]).ok());
  EXPECT_TRUE(store().Get("a", ids[0]).ok());
}

TEST_P(StoreContract, AnExpiredParentBecomesAStub) {
  const std::string parent = fixture_.Put(MakeRecord(1), {.time_to_live = absl::Hours(1)});
  const std::string child = fixture_.PutChild(2, {parent});
  fixture_.clock.Advance(absl::Hours(1));
  EXPECT_EQ(store().SweepExpired(10).value(), 1);
  EXPECT_TRUE(store().Describe(kTenant, parent)->deleted);
  ASSERT_TRUE(store().Delete(kTenant, child, "").ok());
  EXPECT_TRUE(absl::IsNotFound(store().Describe(kTenant, parent).status()));
}

TEST_P(StoreContract, TheCapRefusesAndWritesNothing) {
  const std::string first = fixture_.Put(1);
  const int64_t one = store().Stats().bytes;
  EXPECT_GT(one, MakeRecord(1).state.shape.bytes());
  fixture_.Close();
  fixture_.options.max_bytes = one * 5 / 2;
  fixture_.clock.Advance(absl::Milliseconds(1));
  fixture_.Open();
  const std::string second = fixture_.Put(2);
  const absl::Status refused = store().Put(kTenant, MakeRecord(3), {}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused)) << refused;
  EXPECT_EQ(DetailsOf(refused).quota_subject, "state store bytes");
  EXPECT_THAT(ListAll(store(), kTenant, {}), ElementsAre(second, first));
  ASSERT_TRUE(store().Delete(kTenant, first, "").ok());
  const std::string third = fixture_.Put(4);
  EXPECT_THAT(ListAll(store(), kTenant, {}), ElementsAre(third, second));
  EXPECT_EQ(store().Stats().states, 2);
}

TEST_P(StoreContract, TheCapHoldsWhenManyPutAtOnce) {
  fixture_.Put(0);
  const int64_t one = store().Stats().bytes;
  fixture_.Close();
  fixture_.options.max_bytes = one * 6 + 200;
  fixture_.Open();
  std::atomic<int> stored{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int k = 0; k < 5; ++k) stored += store().Put(kTenant, MakeRecord(100), {}).ok() ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stored, 5);
  EXPECT_LE(store().Stats().bytes, fixture_.options.max_bytes);
}

TEST_P(StoreContract, TotalsSurviveReopening) {
  const std::string id = fixture_.Put(1);
  fixture_.PutChild(2, {id});
  ASSERT_TRUE(store().Delete(kTenant, id, "").ok());
  const StoreStats before = store().Stats();
  fixture_.Reopen();
  EXPECT_EQ(store().Stats().states, before.states);
  EXPECT_EQ(store().Stats().bytes, before.bytes);
  EXPECT_EQ(before.states, 1);
}

TEST_P(StoreContract, StatsTellWhatMemoryTheDatabaseHolds) {
  const int64_t before = store().Stats().memory.write_buffers;
  fixture_.Put(1);
  const StoreStats stats = store().Stats();
  // A new record is in memory whole until its buffer is written.
  EXPECT_GE(stats.memory.write_buffers - before, stats.bytes);
  EXPECT_LE(stats.memory.cache, fixture_.options.cache_bytes);
}

TEST_P(StoreContract, ManyThreadsDoEverythingAtOnce) {
  std::vector<std::thread> threads;
  for (int worker = 0; worker < 4; ++worker) {
    threads.emplace_back([this, worker] {
      std::vector<std::string> mine;
      for (int i = 0; i < 40; ++i) {
        Record record = MakeRecord(worker * 1000 + i);
        if (!mine.empty()) record.lineage.parents = {mine.back()};
        const auto put = store().Put(kTenant, record, {.labels = {"w"}});
        ASSERT_TRUE(put.ok()) << put.status();
        mine.push_back(put->record.id);
        const auto found = store().Get(kTenant, mine[i / 2]);
        if (found.ok()) {
          ASSERT_EQ((*found)->id, mine[i / 2]);
        }
        ASSERT_TRUE(store().List(kTenant, {.labels = {"w"}, .page_size = 5}).ok());
        if (i % 3 == 0) store().Delete(kTenant, mine[i / 3], "").IgnoreError();
        if (i % 5 == 0) store().Update(kTenant, mine[i / 2], "", {}, absl::Hours(1)).IgnoreError();
        if (i % 10 == 0) {
          ASSERT_TRUE(store().SweepExpired(5).ok());
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace dreamstate::state
