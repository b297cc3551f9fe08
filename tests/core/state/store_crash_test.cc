// A process that dies at any moment loses nothing that it was told is stored.
#include <signal.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <random>
#include <set>
#include <sstream>

#include "core/base/status.h"
#include "gtest/gtest.h"
#include "tests/core/state/child_process.h"
#include "tests/core/state/store_fixture.h"

namespace dreamstate::testing {
namespace {

// Large enough that files are written and compacted while the rounds go on.
constexpr state::Shape kCrashShape{.layers = 3, .width = 64, .heads = 1, .head_size = 64};

// One write each: a line is in the pipe whole or not at all.
void Say(const std::string& line) {
  const std::string text = line + "\n";
  if (write(STDOUT_FILENO, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    _exit(3);
  }
}

}  // namespace

int WriteUntilKilled(const std::string& path) {
  state::RocksDbStoreOptions options;
  options.path = path;
  options.reclaim_bytes = 1 << 20;
  const auto store = state::OpenRocksDbStore(options);
  if (!store.ok()) {
    Say("error " + store.status().ToString());
    return 1;
  }
  std::mt19937_64 random(static_cast<uint64_t>(getpid()));
  std::deque<std::string> ids;
  for (;;) {
    const uint64_t seed = random();
    state::Record record = MakeRecord(seed, kCrashShape);
    if (!ids.empty() && seed % 3 == 0) record.lineage.parents = {ids.back()};
    const auto put = (*store)->Put(kTenant, record, {.labels = {"crash"}});
    if (!put.ok()) {
      Say("error " + put.status().ToString());
      return 1;
    }
    ids.push_back(put->record.id);
    Say("stored " + ids.back() + " " + std::to_string(seed));
    if (seed % 2 == 0) {
      const std::string& id = ids[seed / 2 % ids.size()];
      Say("labelling " + id);
      if ((*store)->Update(kTenant, id, "", std::vector<std::string>{"crash", "twice"}, {}).ok()) {
        Say("labelled " + id);
      }
    }
    if (ids.size() > 6) {
      Say("deleting " + ids.front());
      if ((*store)->Delete(kTenant, ids.front(), "").ok()) Say("deleted " + ids.front());
      ids.pop_front();
    }
  }
}

int HoldUntilKilled(const std::string& path) {
  state::RocksDbStoreOptions options;
  options.path = path;
  const auto store = state::OpenRocksDbStore(options);
  if (!store.ok()) return 1;
  Say("held");
  for (;;) pause();
}

namespace {

struct Told {
  uint64_t seed = 0;
  bool labelled = false;
  bool deleting = false;
  bool deleted = false;
};

void Note(const std::string& line, std::map<std::string, Told>* told) {
  std::istringstream words(line);
  std::string what;
  std::string id;
  words >> what >> id;
  ASSERT_NE(what, "error") << line;
  Told& state = (*told)[id];
  if (what == "stored") words >> state.seed;
  if (what == "labelled") state.labelled = true;
  if (what == "deleting") state.deleting = true;
  if (what == "deleted") state.deleted = true;
}

TEST(StateStore, AcknowledgedChangesSurviveKill9) {
  constexpr int kRounds = 24;
  StoreFixture fixture;
  fixture.Close();
  std::mt19937 random(99);
  std::map<std::string, Told> told;
  for (int round = 0; round < kRounds; ++round) {
    {
      ChildProcess child("--write-until-killed", fixture.options.path);
      const unsigned lines = random() % 60;
      std::string line;
      for (unsigned i = 0; i <= lines; ++i) {
        ASSERT_TRUE(child.ReadLine(&line));
        Note(line, &told);
      }
      child.Kill();
      while (child.ReadLine(&line)) Note(line, &told);
    }
    fixture.Open();
    ASSERT_FALSE(::testing::Test::HasFatalFailure());
    const absl::Status invariants = fixture.rocksdb->CheckInvariants();
    ASSERT_TRUE(invariants.ok()) << invariants;
    for (const auto& [id, state] : told) {
      const auto found = fixture.store->Get(kTenant, id);
      if (state.deleted) {
        ASSERT_TRUE(absl::IsNotFound(found.status())) << id << " " << found.status();
        continue;
      }
      // A change that was under way may have happened or not, but not by half.
      if (state.deleting && absl::IsNotFound(found.status())) continue;
      ASSERT_TRUE(found.ok()) << "round " << round << ": " << id << " " << found.status();
      state::Record expected = MakeRecord(state.seed, kCrashShape);
      expected.lineage.parents = (*found)->lineage.parents;
      ASSERT_EQ(Difference(expected, **found), "");
      if (state.labelled) {
        ASSERT_EQ(fixture.store->Describe(kTenant, id)->labels.size(), 2u);
      }
    }
    fixture.Close();
  }
  EXPECT_GT(told.size(), static_cast<size_t>(kRounds));
}

TEST(StateStore, ASecondOpenIsRefusedAndSaysWhoHoldsIt) {
  StoreFixture fixture;
  const auto second = state::OpenRocksDbStore(fixture.options);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_NE(second.status().message().find("process " + std::to_string(getpid()) + " on "),
            absl::string_view::npos)
      << second.status();
  fixture.Put(1);  // the first is none the worse
}

TEST(StateStore, AnotherProcessIsNamedAndItsDeathFreesTheStore) {
  StoreFixture fixture;
  const std::string id = fixture.Put(1);
  fixture.Close();
  ChildProcess holder("--hold-until-killed", fixture.options.path);
  std::string line;
  ASSERT_TRUE(holder.ReadLine(&line));
  ASSERT_EQ(line, "held");
  const auto refused = state::OpenRocksDbStore(fixture.options);
  EXPECT_TRUE(absl::IsFailedPrecondition(refused.status())) << refused.status();
  EXPECT_NE(refused.status().message().find("process " + std::to_string(holder.pid()) + " on "),
            absl::string_view::npos)
      << refused.status();
  holder.Kill();
  fixture.Open();
  EXPECT_EQ(fixture.CodeOfGet(id), absl::StatusCode::kOk);
}

}  // namespace
}  // namespace dreamstate::testing
