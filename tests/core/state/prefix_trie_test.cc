#include "core/state/prefix_trie.h"

#include <atomic>
#include <map>
#include <new>
#include <random>
#include <thread>
#include <utility>

#include "gtest/gtest.h"
#include "tests/support/allocation_counter.h"

namespace dreamstate::state {
namespace {

using Tokens = std::vector<int32_t>;
using StatePtr = std::shared_ptr<const PrefixState>;

const PrefixScope kScope = {"fingerprint", "fp32/avx2", "tenant", "", ""};

Tokens Count(int32_t from, int32_t number) {
  Tokens tokens;
  for (int32_t i = 0; i < number; ++i) tokens.push_back(from + i);
  return tokens;
}

Tokens Join(Tokens a, const Tokens& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A state that says which it is.
StatePtr State(float name, size_t values = 100) {
  auto state = std::make_shared<PrefixState>();
  state->values.assign(values, name);
  state->last_hidden.assign(4, name);
  return state;
}

TEST(PrefixTrie, FindsTheLongestPrefixThatHasAState) {
  PrefixTrie trie(1 << 20);
  const Tokens system = Count(0, 40);
  trie.Remember(kScope, Join(system, {100, 101}), State(2));
  trie.Remember(kScope, Join(system, {100, 101, 102, 103}), State(4));
  trie.Remember(kScope, system, State(1));  // in the middle of an edge
  struct Row {
    Tokens tokens;
    float name;
    int64_t found, known;
  };
  const std::vector<Row> rows = {
      {Count(0, 39), 0, 0, 39},                              // shorter than any
      {system, 1, 40, 40},                                   // equal
      {Join(system, {7}), 1, 40, 40},                        // parts here
      {Join(system, {100}), 1, 40, 41},                      // inside an edge
      {Join(system, {100, 101}), 2, 42, 42},                 // equal, in the middle
      {Join(system, {100, 101, 102, 7}), 2, 42, 43},         // parts inside an edge
      {Join(system, {100, 101, 102, 103, 104}), 4, 44, 44},  // extends
      {Join({9}, system), 0, 0, 0},                          // another beginning
      {{}, 0, 0, 0},
  };
  for (const Row& row : rows) {
    const PrefixTrie::Match match = trie.Find(kScope, row.tokens);
    EXPECT_EQ(match.tokens, row.found);
    EXPECT_EQ(match.known, row.known);
    ASSERT_EQ(match.state != nullptr, row.found > 0);
    if (match.state != nullptr) {
      EXPECT_EQ(match.state->values[0], row.name);
    }
  }
  EXPECT_EQ(trie.Held(kScope, system), 40);
  EXPECT_EQ(trie.Held(kScope, Count(0, 39)), 0);
  EXPECT_EQ(trie.Held(kScope, Join(system, {100, 101, 102, 7})), 42);
  const PrefixStats stats = trie.stats();
  EXPECT_EQ(stats.hits, 6);
  EXPECT_EQ(stats.misses, 3);
  EXPECT_EQ(stats.tokens, 40 + 40 + 40 + 42 + 42 + 44);
  EXPECT_EQ(stats.states, 3);
  EXPECT_TRUE(trie.CheckInvariants().ok()) << trie.CheckInvariants();
}

TEST(PrefixTrie, EverythingInTheScopeKeepsTextsApart) {
  PrefixTrie trie(1 << 20);
  const Tokens tokens = Count(0, 50);
  std::vector<PrefixScope> scopes(6, kScope);
  scopes[1].fingerprint = "other";
  scopes[2].numerics = "bf16/avx2";
  scopes[3].tenant = "other";
  scopes[4].adapter = "other";
  scopes[5].source = "other";
  for (size_t i = 0; i < scopes.size(); ++i) {
    for (size_t k = i; k < scopes.size(); ++k) {
      const PrefixTrie::Match match = trie.Find(scopes[k], tokens);
      EXPECT_EQ(match.state, nullptr);
      EXPECT_EQ(match.known, 0);
    }
    trie.Remember(scopes[i], tokens, State(static_cast<float>(i)));
  }
  for (size_t i = 0; i < scopes.size(); ++i) {
    EXPECT_EQ(trie.Find(scopes[i], tokens).state->values[0], static_cast<float>(i));
  }
}

TEST(PrefixTrie, APathWithoutAStateTellsWhereTextsPart) {
  PrefixTrie trie(1 << 20);
  trie.Remember(kScope, Count(0, 60), nullptr);
  PrefixTrie::Match match = trie.Find(kScope, Join(Count(0, 45), {7}));
  EXPECT_EQ(match.state, nullptr);
  EXPECT_EQ(match.known, 45);
  // A path that goes on, and one that parts.
  trie.Remember(kScope, Count(0, 80), nullptr);
  EXPECT_EQ(trie.Find(kScope, Count(0, 100)).known, 80);
  trie.Remember(kScope, Join(Count(0, 45), {7, 8}), nullptr);
  EXPECT_EQ(trie.Find(kScope, Join(Count(0, 45), {7, 8, 9})).known, 47);
  EXPECT_EQ(trie.Find(kScope, Count(0, 100)).known, 80);
  // Nothing new costs nothing.
  const int64_t bytes = trie.stats().bytes;
  trie.Remember(kScope, Count(0, 30), nullptr);
  EXPECT_EQ(trie.stats().bytes, bytes);
  EXPECT_EQ(trie.stats().states, 0);
  EXPECT_TRUE(trie.CheckInvariants().ok()) << trie.CheckInvariants();
}

TEST(PrefixTrie, WhatWasUsedLongestAgoGoesFirstAndWhatIsCopiedLives) {
  PrefixTrie trie(16'000);
  trie.Remember(kScope, Count(1000, 10), State(1, 900));
  trie.Remember(kScope, Count(2000, 10), State(2, 900));
  trie.Remember(kScope, Count(3000, 10), State(3, 900));
  EXPECT_EQ(trie.stats().evicted, 0);
  const StatePtr held = trie.Find(kScope, Count(2000, 10)).state;
  EXPECT_EQ(trie.Find(kScope, Count(1000, 20)).tokens, 10);
  EXPECT_EQ(trie.Held(kScope, Count(3000, 10)), 10);      // a look is no use
  trie.Remember(kScope, Count(4000, 10), State(4, 900));  // the third goes
  trie.Remember(kScope, Count(5000, 10), State(5, 900));  // the second goes
  EXPECT_EQ(trie.stats().evicted, 2);
  EXPECT_EQ(trie.stats().states, 3);
  EXPECT_EQ(trie.Find(kScope, Count(3000, 10)).state, nullptr);
  EXPECT_EQ(trie.Find(kScope, Count(2000, 10)).state, nullptr);
  EXPECT_NE(trie.Find(kScope, Count(1000, 10)).state, nullptr);
  EXPECT_EQ(held->values, std::vector<float>(900, 2));
  EXPECT_TRUE(trie.CheckInvariants().ok()) << trie.CheckInvariants();
}

TEST(PrefixTrie, PathsThatPassByPushOutPathsAndNoStates) {
  PrefixTrie trie(1 << 20);
  trie.Remember(kScope, Count(0, 40), State(1, 1000));
  for (int32_t i = 1; i <= 1000; ++i) trie.Remember(kScope, Count(i * 1000, 500), nullptr);
  EXPECT_EQ(trie.Find(kScope, Count(0, 40)).tokens, 40);
  EXPECT_EQ(trie.Find(kScope, Count(1000 * 1000, 600)).known, 500);
  EXPECT_EQ(trie.Find(kScope, Count(1000, 600)).known, 0);
  EXPECT_LT(trie.stats().bytes, 100'000);
  EXPECT_EQ(trie.stats().evicted, 0);
  EXPECT_TRUE(trie.CheckInvariants().ok()) << trie.CheckInvariants();
}

TEST(PrefixTrie, LongPathsThatPassByPushOutNoStatesEither) {
  constexpr int64_t kRoom = 1 << 20;
  PrefixTrie trie(kRoom);
  trie.Remember(kScope, Count(0, 40), State(1, 1000));
  for (int32_t i = 1; i <= 100; ++i) {
    // What a path has beyond 4096 tokens is not known of it.
    trie.Remember(kScope, Count(i * 100'000, 50'000), nullptr);
    EXPECT_EQ(trie.Find(kScope, Count(i * 100'000, 50'000)).known, 4096);
    EXPECT_LT(trie.stats().bytes, kRoom / 3);
  }
  EXPECT_EQ(trie.Find(kScope, Count(0, 40)).tokens, 40);
  EXPECT_EQ(trie.stats().evicted, 0);
  EXPECT_TRUE(trie.CheckInvariants().ok()) << trie.CheckInvariants();
}

TEST(PrefixTrie, WhatIsTooLargeIsNotRemembered) {
  PrefixTrie trie(16'000);
  trie.Remember(kScope, Count(0, 10), State(1, 900));
  trie.Remember(kScope, Count(0, 20), State(2, 4000));
  trie.Remember(kScope, Count(0, 4000), nullptr);
  EXPECT_EQ(trie.stats().states, 1);
  EXPECT_EQ(trie.stats().evicted, 0);
  EXPECT_EQ(trie.Find(kScope, Count(0, 30)).tokens, 10);
  PrefixTrie off(0);
  off.Remember(kScope, Count(0, 10), State(1, 1));
  EXPECT_EQ(off.stats().bytes, 0);
  EXPECT_EQ(off.Find(kScope, Count(0, 10)).state, nullptr);
}

TEST(PrefixTrie, ABackboneThatIsForgottenLeavesNothing) {
  PrefixTrie trie(1 << 20);
  PrefixScope other = kScope;
  other.fingerprint = "other";
  for (int32_t i = 0; i < 20; ++i) {
    trie.Remember(kScope, Count(0, 10 + i), State(1));
    trie.Remember(kScope, Count(i, 40), nullptr);
  }
  const int64_t before = trie.stats().bytes;
  PrefixScope source = other;
  source.source = "s1";
  trie.Remember(other, Count(0, 30), State(2));
  trie.Remember(source, Count(0, 30), State(2));
  trie.ForgetBackbone("other");
  EXPECT_EQ(trie.stats().bytes, before);
  EXPECT_EQ(trie.Find(other, Count(0, 30)).known, 0);
  EXPECT_EQ(trie.Find(kScope, Count(0, 30)).tokens, 29);
  EXPECT_TRUE(trie.CheckInvariants().ok()) << trie.CheckInvariants();
  trie.ForgetBackbone("fingerprint");
  EXPECT_EQ(trie.stats().bytes, 0);
  EXPECT_EQ(trie.stats().states, 0);
}

// Against a plain map of everything that was remembered: what is found was remembered for exactly
// these tokens, and with room for all it is the longest.
TEST(PrefixTrie, RandomOperationsAgreeWithAPlainMap) {
  for (const int64_t room : {int64_t{40'000}, int64_t{1} << 30}) {
    SCOPED_TRACE(room);
    PrefixTrie trie(room);
    std::map<std::pair<std::string, Tokens>, StatePtr> model;
    std::mt19937 random(7);
    const auto below = [&](uint32_t n) { return random() % n; };
    for (int step = 0; step < 6000; ++step) {
      PrefixScope scope = kScope;
      scope.fingerprint = std::string(1, static_cast<char>('a' + below(2)));
      Tokens tokens;  // few different ones: many share, part, equal and extend
      for (uint32_t n = 1 + below(12); n > 0; --n) {
        tokens.push_back(static_cast<int32_t>(below(2)));
        if (below(4) == 0) tokens.insert(tokens.end(), 5, 9);
      }
      const uint32_t kind = below(100);
      if (kind < 40) {
        const StatePtr state = State(static_cast<float>(step), 20 + below(200));
        trie.Remember(scope, tokens, state);
        model.try_emplace({scope.fingerprint, tokens}, state);
      } else if (kind < 50) {
        trie.Remember(scope, tokens, nullptr);
      } else if (kind < 51) {
        trie.ForgetBackbone(scope.fingerprint);
        std::erase_if(model, [&](const auto& e) { return e.first.first == scope.fingerprint; });
      } else {
        const PrefixTrie::Match match = trie.Find(scope, tokens);
        ASSERT_LE(match.tokens, match.known);
        ASSERT_LE(match.known, static_cast<int64_t>(tokens.size()));
        ASSERT_EQ(match.tokens > 0, match.state != nullptr);
        int64_t longest = 0;
        for (size_t n = 1; n <= tokens.size(); ++n) {
          const auto known =
              model.find({scope.fingerprint, Tokens(tokens.begin(), tokens.begin() + n)});
          if (known == model.end()) continue;
          longest = static_cast<int64_t>(n);
          if (longest == match.tokens && room > 1 << 20) {
            ASSERT_EQ(match.state, known->second);
          }
        }
        if (room > 1 << 20) {
          ASSERT_EQ(match.tokens, longest);
        } else {
          ASSERT_LE(match.tokens, longest);
        }
      }
      const absl::Status invariants = trie.CheckInvariants();
      ASSERT_TRUE(invariants.ok()) << invariants << " in step " << step;
    }
    EXPECT_EQ(trie.stats().evicted > 0, room < 1 << 20);
  }
}

// Every allocation of every change fails once. What is found then is what was found before, or less
// by what made place.
TEST(PrefixTrie, WhenMemoryRunsOutNothingIsWrong) {
  for (const int64_t room : {int64_t{30'000}, int64_t{1} << 30}) {
    SCOPED_TRACE(room);
    PrefixTrie trie(room);
    std::mt19937 random(11);
    const auto below = [&](uint32_t n) { return random() % n; };
    const auto some_tokens = [&] {
      Tokens tokens;
      for (uint32_t n = 1 + below(10); n > 0; --n) {
        tokens.push_back(static_cast<int32_t>(below(2)));
        if (below(4) == 0) tokens.insert(tokens.end(), 5, 9);
      }
      return tokens;
    };
    // A state says how many tokens it has read, and their sum.
    const auto state_of = [](const Tokens& tokens) {
      float name = static_cast<float>(tokens.size());
      for (const int32_t token : tokens) name += 1000.0f * static_cast<float>(token);
      return State(name, 100);
    };
    int failures = 0;
    for (int step = 0; step < 1500; ++step) {
      PrefixScope scope = kScope;
      scope.fingerprint = std::string(60, static_cast<char>('a' + below(3)));
      if (below(60) == 0) {
        testing::FailAllocation(1);
        trie.ForgetBackbone(scope.fingerprint);
        testing::FailAllocation(0);
        continue;
      }
      const Tokens tokens = some_tokens();
      const StatePtr state = below(4) == 0 ? nullptr : state_of(tokens);
      bool done = false;
      for (int n = 1; !done; ++n) {
        const PrefixStats before = trie.stats();
        testing::FailAllocation(n);
        try {
          trie.Remember(scope, tokens, state);
          done = true;
        } catch (const std::bad_alloc&) {
          ++failures;
        }
        testing::FailAllocation(0);
        const absl::Status invariants = trie.CheckInvariants();
        ASSERT_TRUE(invariants.ok()) << invariants << " in step " << step << ", allocation " << n;
        if (!done && room > 1 << 20) {
          ASSERT_EQ(trie.stats().bytes, before.bytes);
          ASSERT_EQ(trie.stats().states, before.states);
        }
        const Tokens probe = n % 2 == 0 ? tokens : some_tokens();
        const PrefixTrie::Match match = trie.Find(scope, probe);
        if (match.state != nullptr) {
          const Tokens read(probe.begin(), probe.begin() + match.tokens);
          ASSERT_EQ(match.state->values, state_of(read)->values);
        }
      }
      if (state != nullptr) {
        ASSERT_EQ(trie.Held(scope, tokens), static_cast<int64_t>(tokens.size()));
      }
    }
    EXPECT_GT(failures, 1000);
    EXPECT_EQ(trie.stats().evicted > 0, room < 1 << 20);
  }
}

TEST(PrefixTrie, AVeryDeepTrieIsFreedWithoutRecursion) {
  PrefixTrie trie(int64_t{1} << 30);
  const Tokens tokens = Count(0, 20'000);
  // From the longest: each cuts the one edge that leads to all others.
  for (size_t n = tokens.size(); n > 0; --n) {
    trie.Remember(kScope, std::span(tokens).first(n), State(1, 1));
  }
  EXPECT_EQ(trie.stats().states, 20'000);
  EXPECT_TRUE(trie.CheckInvariants().ok());
  trie.ForgetBackbone(kScope.fingerprint);
  EXPECT_EQ(trie.stats().bytes, 0);
}

TEST(PrefixTrie, ManyThreadsShareIt) {
  PrefixTrie trie(100'000);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t) {
    threads.emplace_back([&trie, &wrong, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 2000; ++i) {
        const auto first = static_cast<int32_t>(random() % 20);
        const auto number = static_cast<int32_t>(1 + random() % 60);
        const PrefixTrie::Match match = trie.Find(kScope, Count(first, number));
        if (match.state != nullptr) {
          // Its values say how it began and how long it is.
          const float expected =
              static_cast<float>(first * 1000) + static_cast<float>(match.tokens);
          for (const float value : match.state->values) wrong += value == expected ? 0 : 1;
        }
        trie.Remember(kScope, Count(first, number),
                      State(static_cast<float>(first * 1000 + number), 200));
        if (i % 500 == 499) trie.ForgetBackbone(kScope.fingerprint);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_TRUE(trie.CheckInvariants().ok());
}

}  // namespace
}  // namespace dreamstate::state
