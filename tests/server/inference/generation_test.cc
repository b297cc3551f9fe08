// GenerationService in a gRPC server in this process: GenerateStates and EditState over a small
// random model with a random state DiT.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "core/base/draws.h"
#include "core/state/algebra.h"
#include "core/state/geometry.h"
#include "dreamstate/v1/generation_service.grpc.pb.h"
#include "server/inference/diffusion_loop.h"
#include "server/inference/generation_service.h"
#include "server/inference/state_dit.h"
#include "tests/server/inference/grpc_fixture.h"
#include "tests/support/random_state_dit.h"

namespace dreamstate::server {
namespace {

using grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::shared_ptr<const StateDit> MakeStateDit(const testing::RandomStateDitOptions& options) {
  const rwkv::Config& config = TestWeights()->config;
  const repository::Component component = {
      .kind = "state_dit",
      .digest = std::string(64, 'd'),
      .config = {{"labels", {"c", "go", "rust"}}, {"taps", {1}}}};
  return LoadStateDit(component, testing::RandomStateDit(config, options), config).value();
}

class GenerationTest : public ::testing::Test {
 protected:
  explicit GenerationTest(bool gate = false) {
    auto with_dit = std::make_shared<ModelSession>(*serving_.session);
    with_dit->state_dit = MakeStateDit({.gate = gate});
    serving_.session = with_dit;
    serving_.context.diffusion = &loop_;
    service_ = std::make_unique<GenerationService>(
        GenerationContext{serving_.context, &workers_, &metrics_});
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(service_.get());
    server_ = builder.BuildAndStart();
    stub_ = v1::GenerationService::NewStub(grpc::CreateChannel("127.0.0.1:" + std::to_string(port),
                                                               grpc::InsecureChannelCredentials()));
  }
  ~GenerationTest() override {
    server_->Shutdown(std::chrono::system_clock::now());
    server_->Wait();
  }

  struct Made {
    grpc::Status status;
    v1::GenerationStart start;
    std::vector<v1::GeneratedState> states;
    v1::GenerationSummary summary;
    int last_step = 0, steps = 0;
  };
  Made Generate(const v1::GenerateStatesRequest& request) {
    grpc::ClientContext context;
    const auto reader = stub_->GenerateStates(&context, request);
    Made made;
    for (v1::GenerateStatesResponse message; reader->Read(&message);) {
      if (message.has_start()) made.start = message.start();
      if (message.has_state()) made.states.push_back(message.state());
      if (message.has_summary()) made.summary = message.summary();
      if (message.has_progress()) {
        EXPECT_GE(message.progress().step(), made.last_step);
        made.last_step = message.progress().step();
        made.steps = message.progress().steps();
      }
    }
    made.status = reader->Finish();
    return made;
  }
  grpc::Status Edit(const v1::EditStateRequest& request) {
    grpc::ClientContext context;
    edited_.Clear();
    return stub_->EditState(&context, request, &edited_);
  }
  state::State StateOf(const std::string& name) {
    return serving_.store.Get("default", name.substr(7)).value()->state;
  }
  // A stored state that the gate of a random state DiT was fitted on.
  std::string KeepOneOfTheGates() {
    const std::string name = Keep(1);
    state::Record record = *serving_.store.Get("default", name.substr(7)).value();
    Draws draws(1, 1, 0);
    for (float& value : record.state.wkv) value = static_cast<float>(draws.Uniform() - 0.5);
    return "states/" + serving_.store.Put("default", record, {})->record.id;
  }
  // A stored state of the model, its values by `seed`.
  std::string Keep(uint32_t seed, const std::string& fingerprint = "") {
    state::Record record;
    record.model = "tiny";
    record.fingerprint = fingerprint.empty() ? serving_.session->weights->fingerprint : fingerprint;
    record.numerics = "fp32";
    record.state = state::State::Empty(state::Shape::Of(serving_.session->weights->config));
    std::mt19937 bits(seed);
    for (float& value : record.state.wkv) value = static_cast<float>(bits() % 512) / 512 - 0.5f;
    for (float& value : record.state.shift) value = static_cast<float>(bits() % 512) / 512;
    return "states/" + serving_.store.Put("default", record, {})->record.id;
  }
  static v1::GenerateStatesRequest Request(int steps = 2, uint64_t seed = 5) {
    v1::GenerateStatesRequest request;
    request.mutable_options()->set_steps(steps);
    request.mutable_options()->set_seed(seed);
    return request;
  }

  Metrics metrics_;
  DiffusionLoop loop_{1, &metrics_};
  Executor workers_{4, 64};
  Serving serving_;
  std::unique_ptr<GenerationService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
  v1::EditStateResponse edited_;
};

TEST_F(GenerationTest, TellsItsProgressAndStoresEveryState) {
  v1::GenerateStatesRequest request = Request(4);
  request.set_samples(3);
  request.add_conditions()->set_label("go");
  v1::StateCondition* const text = request.add_conditions();
  text->mutable_text()->set_text("package main");
  text->set_weight(0.5f);
  request.add_conditions()->mutable_keywords()->add_words("channel");
  request.mutable_annotations()->add_labels("made");
  const Made made = Generate(request);
  ASSERT_TRUE(made.status.ok()) << made.status.error_message();
  EXPECT_EQ(made.start.model_version(), "models/tiny/versions/3");
  EXPECT_EQ(made.start.seed(), 5u);
  EXPECT_EQ(made.start.samples(), 3);
  EXPECT_EQ(made.steps, 12);
  EXPECT_EQ(made.summary.states(), 3);
  ASSERT_THAT(made.states, SizeIs(3));
  for (int i = 0; i < 3; ++i) {
    const v1::GeneratedState& one = made.states[static_cast<size_t>(i)];
    EXPECT_EQ(one.sample(), i);
    EXPECT_EQ(one.state().lineage().operation(), "generate");
    EXPECT_THAT(one.state().labels(), ElementsAre("made"));
    EXPECT_FALSE(one.state().has_last_hidden());
    EXPECT_TRUE(StateOf(one.state().name()).Validate().ok());
  }
  EXPECT_NE(StateOf(made.states[0].state().name()), StateOf(made.states[1].state().name()));
}

TEST_F(GenerationTest, SameSeedSameStateAndASampleCanBeMadeAlone) {
  v1::GenerateStatesRequest request = Request();
  request.set_samples(2);
  const Made first = Generate(request), second = Generate(request);
  ASSERT_TRUE(first.status.ok());
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(StateOf(first.states[i].state().name()), StateOf(second.states[i].state().name()));
  }
  request.set_samples(1);
  request.set_first_sample(1);
  const Made alone = Generate(request);
  ASSERT_THAT(alone.states, SizeIs(1));
  EXPECT_EQ(alone.states[0].sample(), 1);
  EXPECT_LT(state::Compare(StateOf(alone.states[0].state().name()),
                           StateOf(first.states[1].state().name()))
                .total.relative_distance,
            1e-4);
}

TEST_F(GenerationTest, TheBestCandidateIsTheOneWithTheLeastLoss) {
  v1::GenerateStatesRequest request = Request();
  request.mutable_best_of()->set_candidates(4);
  request.mutable_best_of()->mutable_text()->set_text("hello");
  request.set_inline_tensors(true);
  const Made best = Generate(request);
  ASSERT_TRUE(best.status.ok()) << best.status.error_message();
  EXPECT_EQ(serving_.store.puts(), 0);
  EXPECT_LT(best.states[0].best_bits_per_byte(), best.states[0].worst_bits_per_byte());
  // It is one of the four that a call without a choice makes.
  request.clear_best_of();
  request.set_samples(4);
  const Made all = Generate(request);
  int same = 0;
  for (const v1::GeneratedState& one : all.states) {
    same += one.tensors().wkv() == best.states[0].tensors().wkv() ? 1 : 0;
  }
  EXPECT_EQ(same, 1);
}

TEST_F(GenerationTest, KeptMatricesStayToTheBit) {
  const std::string from = Keep(1);
  v1::GenerateStatesRequest request = Request();
  request.mutable_inpainting()->set_state(from);
  request.mutable_inpainting()->mutable_keep()->add_layers(1);
  const Made made = Generate(request);
  ASSERT_TRUE(made.status.ok()) << made.status.error_message();
  const state::State before = StateOf(from), after = StateOf(made.states[0].state().name());
  const size_t half = before.wkv.size() / 2;
  EXPECT_TRUE(std::equal(before.wkv.begin() + static_cast<ptrdiff_t>(half), before.wkv.end(),
                         after.wkv.begin() + static_cast<ptrdiff_t>(half)));
  EXPECT_FALSE(std::equal(before.wkv.begin(), before.wkv.begin() + static_cast<ptrdiff_t>(half),
                          after.wkv.begin()));
  EXPECT_THAT(made.states[0].state().lineage().parents(), ElementsAre(from));
}

TEST_F(GenerationTest, ARetryAnswersWithTheStatesOfTheFirstCall) {
  v1::GenerateStatesRequest request = Request();
  request.mutable_options()->clear_seed();
  request.set_request_id("once");
  const Made first = Generate(request), second = Generate(request);
  ASSERT_TRUE(second.status.ok());
  EXPECT_EQ(serving_.store.puts(), 1);
  EXPECT_EQ(second.start.seed(), first.start.seed());
  EXPECT_EQ(second.states[0].state().name(), first.states[0].state().name());
  request.set_samples(2);
  EXPECT_EQ(Generate(request).status.error_code(), StatusCode::ALREADY_EXISTS);
}

TEST_F(GenerationTest, BadRequestsNameTheirField) {
  const std::string state = Keep(1);
  const auto fails = [&](const std::string& field, const std::string& says, auto edit) {
    v1::GenerateStatesRequest request = Request();
    edit(request);
    const Made made = Generate(request);
    EXPECT_EQ(made.status.error_code(), StatusCode::INVALID_ARGUMENT) << field;
    EXPECT_THAT(FieldsOf(made.status), ElementsAre(field)) << made.status.error_message();
    EXPECT_THAT(made.status.error_message(), HasSubstr(says));
    EXPECT_THAT(made.states, SizeIs(0));
  };
  using R = v1::GenerateStatesRequest;
  fails("conditions[0].label", "c, go, rust", [](R& r) { r.add_conditions()->set_label("cobol"); });
  fails("conditions[0]", "expected a label", [](R& r) { r.add_conditions(); });
  fails("conditions[0].weight", "other than 0", [](R& r) {
    r.add_conditions()->set_label("c");
    r.mutable_conditions(0)->set_weight(0);
  });
  fails("conditions[0].weight", "found nan", [](R& r) {
    r.add_conditions()->set_label("c");
    r.mutable_conditions(0)->set_weight(NAN);
  });
  fails("conditions", "at most 8", [](R& r) {
    for (int i = 0; i < 9; ++i) r.add_conditions()->set_label("c");
  });
  fails("conditions[0].text", "at least one", [](R& r) { r.add_conditions()->mutable_text(); });
  fails("conditions[0].text.text", "256",
        [](R& r) { r.add_conditions()->mutable_text()->set_text(std::string(300, 'x')); });
  fails("conditions[0].keywords.words", "1 to 32",
        [](R& r) { r.add_conditions()->mutable_keywords(); });
  fails("conditions[0].keywords.words[1]", "1 to 64", [](R& r) {
    r.add_conditions()->mutable_keywords()->add_words("a");
    r.mutable_conditions(0)->mutable_keywords()->add_words("");
  });
  fails("options.steps", "1 to 1000, found 0", [](R& r) { r.mutable_options()->set_steps(0); });
  fails("options.steps", "found 10000", [](R& r) { r.mutable_options()->set_steps(10'000); });
  fails("options.steps", "one step",
        [](R& r) { r.mutable_options()->set_mode(v1::GenerationOptions::MEAN); });
  fails("options.mode", "SAMPLE or MEAN",
        [](R& r) { r.mutable_options()->set_mode(static_cast<v1::GenerationOptions::Mode>(9)); });
  fails("samples", "1 to 64", [](R& r) { r.set_samples(65); });
  fails("first_sample", "found -1", [](R& r) { r.set_first_sample(-1); });
  fails("best_of.candidates", "2 to 32", [](R& r) { r.mutable_best_of()->set_candidates(1); });
  fails("best_of.candidates", "at most 256", [](R& r) {
    r.mutable_best_of()->set_candidates(32);
    r.set_samples(9);
  });
  fails("best_of.text", "some text", [](R& r) { r.mutable_best_of()->set_candidates(2); });
  fails("inpainting.keep", "nothing is left",
        [&](R& r) { r.mutable_inpainting()->set_state(state); });
  fails("inpainting.keep.heads[0]", "0 to 1", [&](R& r) {
    r.mutable_inpainting()->set_state(state);
    r.mutable_inpainting()->mutable_keep()->add_heads(2);
  });
  fails("inpainting.state", "states/", [](R& r) { r.mutable_inpainting()->set_state("x"); });
  fails("state_dit_digest", "64 hex", [](R& r) { r.set_state_dit_digest("abc"); });
  fails("annotations.labels[0]", "", [](R& r) { r.mutable_annotations()->add_labels(""); });
  EXPECT_EQ(serving_.store.puts(), 1);
}

TEST_F(GenerationTest, WhatDoesNotFitIsAPreconditionWithBothSides) {
  v1::GenerateStatesRequest request = Request();
  request.set_state_dit_digest(std::string(64, 'e'));
  Made made = Generate(request);
  EXPECT_EQ(made.status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(made.status.error_message(), HasSubstr(std::string(64, 'd')));

  request = Request();
  request.mutable_inpainting()->set_state(Keep(1, std::string(64, 'a')));
  request.mutable_inpainting()->mutable_keep()->add_layers(0);
  made = Generate(request);
  EXPECT_EQ(made.status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(made.status.error_message(), HasSubstr(std::string(12, 'a')));

  request = Request();
  request.set_strict(true);
  made = Generate(request);
  EXPECT_EQ(made.status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(made.status.error_message(), HasSubstr("without a safety gate"));

  auto without = std::make_shared<ModelSession>(*serving_.session);
  without->state_dit = nullptr;
  serving_.session = without;
  made = Generate(Request());
  EXPECT_EQ(made.status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(made.status.error_message(), HasSubstr("no state DiT"));
}

class GatedGenerationTest : public GenerationTest {
 protected:
  GatedGenerationTest() : GenerationTest(/*gate=*/true) {}
};

TEST_F(GatedGenerationTest, AStateThatFailsIsToldAndNeverReturnedWhereItIsStrict) {
  // A network of random weights makes no real states.
  v1::GenerateStatesRequest request = Request();
  Made made = Generate(request);
  ASSERT_TRUE(made.status.ok());
  EXPECT_FALSE(made.states[0].safety().passed());
  EXPECT_THAT(made.states[0].safety().checks(), SizeIs(3));
  request.set_strict(true);
  const int puts = serving_.store.puts();
  made = Generate(request);
  EXPECT_EQ(made.status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(made.status.error_message(), HasSubstr("failed the safety gate"));
  EXPECT_EQ(serving_.store.puts(), puts);

  v1::EditStateRequest edit;
  edit.set_state(KeepOneOfTheGates());
  edit.mutable_scale()->set_factor(1);
  edit.set_strict(true);
  ASSERT_TRUE(Edit(edit).ok());  // one like those that it was fitted on
  EXPECT_TRUE(edited_.safety().passed());
  edit.mutable_scale()->set_factor(0.01f);
  const grpc::Status status = Edit(edit);
  EXPECT_EQ(status.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("norm of layer"));
}

TEST_F(GenerationTest, EditsAreTheAlgebraOfStates) {
  const std::string a = Keep(1), b = Keep(2), c = Keep(3);
  const state::State sa = StateOf(a), sb = StateOf(b), sc = StateOf(c);
  v1::EditStateRequest request;
  request.set_state(a);
  const auto result = [&] {
    const grpc::Status status = Edit(request);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return status.ok() ? StateOf(edited_.state().name()) : state::State();
  };
  request.mutable_interpolate()->set_other(b);
  request.mutable_interpolate()->set_fraction(0.25f);
  EXPECT_EQ(result(), state::Linear(sa, sb, 0.25));
  EXPECT_THAT(edited_.state().lineage().parents(), ElementsAre(a, b));
  EXPECT_EQ(edited_.state().lineage().operation(), "edit");
  EXPECT_GT(edited_.energy_before(), 0);
  EXPECT_NEAR(edited_.relative_change(),
              state::DistanceOf(state::Linear(sa, sb, 0.25), sa) / state::NormOf(sa), 1e-9);
  request.mutable_interpolate()->set_path(v1::EditStateRequest::Interpolate::SPHERICAL);
  EXPECT_EQ(result(), state::Spherical(sa, sb, 0.25));
  request.mutable_mask()->add_heads(1);
  EXPECT_EQ(result(),
            state::Masked(sa, state::Spherical(sa, sb, 0.25), {false, true, false, true}));
  request.clear_mask();
  request.mutable_blend()->add_others()->set_state(b);
  request.mutable_blend()->add_others()->set_state(c);
  request.mutable_blend()->mutable_others(1)->set_weight(-2);
  const float third = 1.0f / 3;
  const state::WeightedState blend[] = {{&sa, third}, {&sb, third}, {&sc, -2}};
  EXPECT_EQ(result(), state::WeightedSum(blend));
  auto* const direction = request.mutable_arithmetic()->add_directions();
  direction->set_plus(b);
  direction->set_minus(c);
  direction->set_weight(0.5f);
  const state::WeightedState sum[] = {{&sa, 1}, {&sb, 0.5}, {&sc, -0.5}};
  EXPECT_EQ(result(), state::WeightedSum(sum));
  request.mutable_probe()->set_text("some words");
  request.mutable_scale()->set_factor(2);
  EXPECT_EQ(result().wkv[7], 2 * sa.wkv[7]);
  EXPECT_NEAR(edited_.relative_norm(), 2, 1e-6);
  EXPECT_GT(edited_.probe_bits_per_byte_before(), 0);
  EXPECT_NE(edited_.probe_bits_per_byte_before(), edited_.probe_bits_per_byte_after());
}

TEST_F(GenerationTest, EditsThatRunTheStateDitAreMadeAgainByTheirSeed) {
  const std::string a = Keep(1), b = Keep(2);
  const auto twice = [&](auto fill) {
    v1::EditStateRequest request;
    request.set_state(a);
    fill(request);
    ASSERT_TRUE(Edit(request).ok());
    const state::State first = StateOf(edited_.state().name());
    EXPECT_NE(first.wkv, StateOf(a).wkv);
    ASSERT_TRUE(Edit(request).ok());
    EXPECT_EQ(StateOf(edited_.state().name()), first);
  };
  using R = v1::EditStateRequest;
  twice([](R& r) { r.mutable_project()->mutable_options()->set_seed(3); });
  twice([](R& r) {
    r.mutable_translate()->add_from()->set_label("c");
    r.mutable_translate()->add_to()->set_label("go");
    r.mutable_translate()->mutable_options()->set_seed(3);
  });
  twice([](R& r) {
    r.mutable_inpaint()->mutable_options()->set_seed(3);
    r.mutable_mask()->add_layers(0);
  });
  twice([&](R& r) {
    r.mutable_interpolate()->set_other(b);
    r.mutable_interpolate()->set_fraction(0.5f);
    r.mutable_interpolate()->set_path(R::Interpolate::FLOW);
    r.mutable_interpolate()->set_steps(3);
  });
  twice([&](R& r) {
    r.mutable_scale()->set_factor(1.5f);
    r.mutable_then_project()->mutable_options()->set_seed(4);
  });
  // A drawn seed is told.
  R request;
  request.set_state(a);
  request.mutable_project();
  ASSERT_TRUE(Edit(request).ok());
  EXPECT_NE(edited_.seed(), 0u);
}

TEST_F(GenerationTest, BadEditsNameTheirField) {
  const std::string a = Keep(1);
  const auto fails = [&](const std::string& field, auto fill) {
    v1::EditStateRequest request;
    request.set_state(a);
    fill(request);
    const grpc::Status status = Edit(request);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << field;
    EXPECT_THAT(FieldsOf(status), ElementsAre(field)) << status.error_message();
  };
  using R = v1::EditStateRequest;
  fails("operation", [](R&) {});
  fails("state", [](R& r) { r.set_state("models/x"); });
  fails("interpolate.fraction", [&](R& r) {
    r.mutable_interpolate()->set_other(a);
    r.mutable_interpolate()->set_fraction(3);
  });
  fails("interpolate.fraction", [&](R& r) {
    r.mutable_interpolate()->set_other(a);
    r.mutable_interpolate()->set_fraction(NAN);
  });
  fails("interpolate.other", [](R& r) { r.mutable_interpolate(); });
  fails("blend.others", [](R& r) { r.mutable_blend(); });
  fails("blend", [&](R& r) {
    r.mutable_blend()->set_weight(0);
    r.mutable_blend()->add_others()->set_state(a);
    r.mutable_blend()->mutable_others(0)->set_weight(0);
  });
  fails("project.noise", [](R& r) { r.mutable_project()->set_noise(1); });
  fails("then_project.noise", [](R& r) {
    r.mutable_scale()->set_factor(1);
    r.mutable_then_project()->set_noise(0);
  });
  fails("project.options.mode", [](R& r) {
    r.mutable_project()->mutable_options()->set_mode(v1::GenerationOptions::MEAN);
  });
  fails("translate.to", [](R& r) { r.mutable_translate(); });
  fails("translate.to[0].label", [](R& r) { r.mutable_translate()->add_to()->set_label("x"); });
  fails("mask", [](R& r) { r.mutable_inpaint(); });
  fails("mask.layers[0]", [](R& r) {
    r.mutable_scale();
    r.mutable_mask()->add_layers(7);
  });
  fails("arithmetic.directions[0]", [](R& r) { r.mutable_arithmetic()->add_directions(); });
  fails("scale.factor", [](R& r) { r.mutable_scale()->set_factor(-1); });
  fails("probe", [](R& r) {
    r.mutable_scale()->set_factor(1);
    r.mutable_probe();
  });
  // Another backbone's state.
  R request;
  request.set_state(a);
  request.mutable_blend()->add_others()->set_state(Keep(2, std::string(64, 'a')));
  EXPECT_EQ(Edit(request).error_code(), StatusCode::FAILED_PRECONDITION);
  request.mutable_blend()->mutable_others(0)->set_state("states/missing");
  EXPECT_EQ(Edit(request).error_code(), StatusCode::NOT_FOUND);
}

TEST_F(GenerationTest, CallsThatComeTogetherAreMadeTogetherAndAsAlone) {
  std::vector<Made> together(6);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < together.size(); ++i) {
    threads.emplace_back([&, i] { together[i] = Generate(Request(20, 100 + i)); });
  }
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < together.size(); ++i) {
    ASSERT_TRUE(together[i].status.ok());
    const Made alone = Generate(Request(20, 100 + i));
    EXPECT_LT(state::Compare(StateOf(alone.states[0].state().name()),
                             StateOf(together[i].states[0].state().name()))
                  .total.relative_distance,
              1e-4);
  }
}

TEST_F(GenerationTest, ACallerThatLeavesEndsItsCall) {
  v1::GenerateStatesRequest request = Request(1000);
  request.set_samples(64);
  grpc::ClientContext context;
  const auto reader = stub_->GenerateStates(&context, request);
  v1::GenerateStatesResponse message;
  ASSERT_TRUE(reader->Read(&message));
  ASSERT_TRUE(message.has_start());
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), StatusCode::CANCELLED);
  // The loop is free again.
  EXPECT_TRUE(Generate(Request()).status.ok());
}

}  // namespace
}  // namespace dreamstate::server
