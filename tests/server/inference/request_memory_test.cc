#include "server/inference/request_memory.h"

#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "core/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace dreamstate::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Admission = RequestMemory::Admission;
using Key = RequestMemory::Key;

Key KeyOf(const std::string& request_id, const std::string& method = "Delete",
          const std::string& tenant = "default") {
  return {.tenant = tenant, .method = method, .request_id = request_id};
}

// What one call was told; nothing while it waits.
struct Told {
  std::optional<absl::StatusOr<Admission>> admission;

  RequestMemory::Admitted Callback() {
    return [this](absl::StatusOr<Admission> told) {
      EXPECT_FALSE(admission.has_value());
      admission = std::move(told);
    };
  }
  bool waits() const { return !admission.has_value(); }
  bool works() const { return !waits() && admission->ok() && (*admission)->turn != nullptr; }
  std::string answer() const { return waits() || !admission->ok() ? "" : (*admission)->answer; }
  absl::StatusCode code() const { return admission->status().code(); }
  void Succeed(const std::string& answer) {
    (*admission)->turn->Remember(answer);
    Fail();
  }
  void Fail() { (*admission)->turn.reset(); }
};

class RequestMemoryTest : public ::testing::Test {
 protected:
  void Make(const RequestMemory::Limits& limits) {
    memory_ = std::make_shared<RequestMemory>(limits);
  }
  void Enter(Told& told, const Key& key, const std::string& content = "content") {
    memory_->Enter(key, content, told.Callback());
  }
  // Does a whole call; the answer that it gets.
  std::string Call(const std::string& request_id, const std::string& answer) {
    Told told;
    Enter(told, KeyOf(request_id));
    if (!told.works()) return told.answer();
    told.Succeed(answer);
    return answer;
  }

  std::shared_ptr<RequestMemory> memory_ = std::make_shared<RequestMemory>();
};

TEST_F(RequestMemoryTest, ARetryGetsTheFirstAnswer) {
  EXPECT_EQ(Call("k", "first"), "first");
  EXPECT_EQ(Call("k", "second"), "first");
  EXPECT_EQ(Call("other", "second"), "second");
}

TEST_F(RequestMemoryTest, KeysAreOfTheirTenantAndMethod) {
  EXPECT_EQ(Call("k", "first"), "first");
  Told method, tenant;
  Enter(method, KeyOf("k", "Update"));
  Enter(tenant, KeyOf("k", "Delete", "other"));
  EXPECT_TRUE(method.works());
  EXPECT_TRUE(tenant.works());
}

TEST_F(RequestMemoryTest, OtherContentIsRefusedWhileTheFirstRunsAndAfterwards) {
  Told first, during, after;
  Enter(first, KeyOf("k"));
  Enter(during, KeyOf("k"), "other");
  EXPECT_EQ(during.code(), absl::StatusCode::kAlreadyExists);
  first.Succeed("answer");
  Enter(after, KeyOf("k"), "other");
  EXPECT_EQ(after.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(std::string(after.admission->status().message()), HasSubstr("k"));
}

TEST_F(RequestMemoryTest, FailuresAreNotRemembered) {
  Told first, second;
  Enter(first, KeyOf("k"));
  first.Fail();
  Enter(second, KeyOf("k"), "other content");
  EXPECT_TRUE(second.works());
}

TEST_F(RequestMemoryTest, ARetryWaitsForTheRunningCallAndGetsItsAnswer) {
  Told first, second, third;
  Enter(first, KeyOf("k"));
  Enter(second, KeyOf("k"));
  Enter(third, KeyOf("k"));
  EXPECT_TRUE(second.waits());
  first.Succeed("answer");
  EXPECT_EQ(second.answer(), "answer");
  EXPECT_EQ(third.answer(), "answer");
  EXPECT_FALSE(second.works());
}

TEST_F(RequestMemoryTest, WhenTheRunningCallFailsTheNextThatWaitsWorks) {
  Told first, second, third;
  Enter(first, KeyOf("k"));
  Enter(second, KeyOf("k"));
  Enter(third, KeyOf("k"));
  first.Fail();
  EXPECT_TRUE(second.works());
  EXPECT_TRUE(third.waits());
  second.Succeed("answer");
  EXPECT_EQ(third.answer(), "answer");
}

TEST_F(RequestMemoryTest, WhatAFailedCallHasNotedIsGivenToTheNext) {
  Make({});
  Told first, waiting, later, last;
  Enter(first, KeyOf("id"));
  EXPECT_EQ(first.answer(), "");
  (*first.admission)->turn->Note("one");
  (*first.admission)->turn->Note("two");
  Enter(waiting, KeyOf("id"));
  EXPECT_TRUE(waiting.waits());
  first.Fail();
  EXPECT_TRUE(waiting.works());
  EXPECT_EQ(waiting.answer(), "two");
  waiting.Fail();
  Told other;
  Enter(other, KeyOf("id"), "other content");
  EXPECT_EQ(other.code(), absl::StatusCode::kAlreadyExists);
  Enter(later, KeyOf("id"));
  EXPECT_TRUE(later.works());
  EXPECT_EQ(later.answer(), "two");
  later.Succeed("all");
  Enter(last, KeyOf("id"));
  EXPECT_FALSE(last.works());
  EXPECT_EQ(last.answer(), "all");
}

TEST_F(RequestMemoryTest, ACallerThatLeavesWaitsNoMore) {
  Make({.waiting = 2});
  const auto gone = std::make_shared<std::atomic<bool>>(false);
  const auto other = std::make_shared<std::atomic<bool>>(false);
  Told first, leaves, stays, late, next;
  Enter(first, KeyOf("k"));
  memory_->Enter(KeyOf("k"), "content", leaves.Callback(), gone);
  memory_->Enter(KeyOf("k"), "content", stays.Callback(), other);
  *gone = true;
  memory_->Withdraw(KeyOf("another"), *gone, absl::CancelledError("gone"));
  EXPECT_TRUE(leaves.waits());
  memory_->Withdraw(KeyOf("k"), *gone, absl::DeadlineExceededError("late"));
  EXPECT_EQ(leaves.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(stays.waits());
  // It left before it began to wait.
  memory_->Enter(KeyOf("k"), "content", late.Callback(), gone);
  EXPECT_EQ(late.code(), absl::StatusCode::kCancelled);
  // Its place in the line is free.
  Enter(next, KeyOf("k"));
  EXPECT_TRUE(next.waits());
  first.Succeed("answer");
  EXPECT_EQ(stays.answer(), "answer");
  EXPECT_EQ(next.answer(), "answer");
}

TEST_F(RequestMemoryTest, AnAnswerCanBeReplacedWhileItIsRemembered) {
  Make({.calls = 1, .bytes = 1 << 20});
  Call("k", "first");
  Told again, other;
  Enter(again, KeyOf("k"));
  ASSERT_FALSE(again.works());
  (*again.admission)->replace("second");
  EXPECT_EQ(Call("k", "third"), "second");
  // Its bytes count: what is too large is forgotten.
  (*again.admission)->replace(std::string(1 << 21, 'x'));
  (*again.admission)->replace("of nothing");
  Enter(other, KeyOf("k"), "other content");
  EXPECT_TRUE(other.works());
  (*again.admission)->replace("of another's");
  other.Succeed("other");
  (*again.admission)->replace("of another's");
  Told last;
  Enter(last, KeyOf("k"), "other content");
  EXPECT_EQ(last.answer(), "other");
  memory_.reset();
  (*again.admission)->replace("of a memory that is gone");
}

TEST_F(RequestMemoryTest, NoMoreThanTheLimitWait) {
  Make({.waiting = 1});
  Told first, second, third;
  Enter(first, KeyOf("k"));
  Enter(second, KeyOf("k"));
  Enter(third, KeyOf("k"));
  EXPECT_TRUE(second.waits());
  EXPECT_EQ(third.code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE(DetailsOf(third.admission->status()).retry_after.has_value());
  first.Fail();
  second.Fail();
}

TEST_F(RequestMemoryTest, CallsWithoutAnIdAreLikeNoOther) {
  Told first, second;
  Enter(first, KeyOf(""));
  Enter(second, KeyOf(""), "other");
  EXPECT_TRUE(first.works());
  EXPECT_TRUE(second.works());
  first.Succeed("answer");
  Told third;
  Enter(third, KeyOf(""));
  EXPECT_TRUE(third.works());
}

TEST_F(RequestMemoryTest, LongIdsAreRefusedByName) {
  Told longest, longer;
  Enter(longest, KeyOf(std::string(128, 'k')));
  Enter(longer, KeyOf(std::string(129, 'k')));
  EXPECT_TRUE(longest.works());
  EXPECT_EQ(longer.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(DetailsOf(longer.admission->status()).field, "request_id");
}

TEST_F(RequestMemoryTest, TheAnswersUsedLongestAgoAreForgotten) {
  Make({.calls = 2});
  Call("a", "first");
  Call("b", "first");
  EXPECT_EQ(Call("a", "again"), "first");
  Call("c", "first");  // forgets b
  EXPECT_EQ(Call("a", "again"), "first");
  EXPECT_EQ(Call("c", "again"), "first");
  EXPECT_EQ(Call("b", "again"), "again");
}

TEST_F(RequestMemoryTest, AnswersAreBoundedByBytes) {
  Make({.bytes = 1 << 20});
  Call("small", "first");
  Call("large", std::string(1 << 19, 'x'));
  EXPECT_EQ(Call("small", "again"), "first");
  // One that never fits is not remembered, and what it displaced is forgotten.
  Call("huge", std::string(1 << 21, 'x'));
  EXPECT_EQ(Call("huge", "again"), "again");
}

TEST_F(RequestMemoryTest, AForgottenCallDoesNotEndItsSuccessor) {
  Make({.calls = 0});
  Told first, second, third;
  Enter(first, KeyOf("k"));
  (*first.admission)->turn->Remember("answer");  // forgotten at once
  Enter(second, KeyOf("k"));
  EXPECT_TRUE(second.works());
  first.Fail();  // the turn of the first dies late
  Enter(third, KeyOf("k"));
  EXPECT_TRUE(third.waits());
  second.Succeed("second");
  EXPECT_EQ(third.answer(), "second");
}

TEST_F(RequestMemoryTest, TurnsMayOutliveTheMemory) {
  Told first, second;
  Enter(first, KeyOf("k"));
  Enter(second, KeyOf("j"));
  memory_.reset();
  first.Succeed("answer");
  second.Fail();
}

TEST_F(RequestMemoryTest, OfManyThreadsOneAtATimeWorksUntilOneSucceeds) {
  constexpr int kThreads = 8, kRounds = 200;
  Make({.waiting = kThreads});
  for (int round = 0; round < kRounds; ++round) {
    std::atomic<int> working{0}, succeeded{0}, answered{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        memory_->Enter(KeyOf(std::to_string(round)), "content",
                       [&, t](absl::StatusOr<Admission> admission) {
                         ASSERT_TRUE(admission.ok()) << admission.status();
                         ++answered;
                         if (admission->turn == nullptr) {
                           EXPECT_EQ(admission->answer, "answer");
                           return;
                         }
                         EXPECT_EQ(++working, 1);
                         const bool succeeds = t % 4 == round % 4;
                         if (succeeds) ++succeeded;
                         --working;
                         if (succeeds) admission->turn->Remember("answer");
                       });
      });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(answered, kThreads);
    EXPECT_EQ(succeeded, 1);
  }
}

}  // namespace
}  // namespace dreamstate::server
