// Every RPC answers each kind of malformed request with the right code and field path, and the
// server goes on serving.
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "google/rpc/status.pb.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/malformed_fixture.h"
#include "tests/end_to_end/malformed_rows.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using testing::BadSources;
using testing::BadTexts;
using testing::FieldOf;
using testing::kLongName;
using testing::Malformed;
using testing::Unary;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST_F(Malformed, Decode) {
  const auto good = [] { return testing::SeededDecode(state_, 1, 2); };
  const std::function<grpc::Status(const v1::DecodeRequest&)> call =
      [](const v1::DecodeRequest& request) { return session_->Decode(request).status; };
  Send<v1::DecodeRequest>(good, call, BadSources<v1::DecodeRequest>());
  Send<v1::DecodeRequest>(
      good, call, BadTexts<v1::DecodeRequest>("prompt", &v1::DecodeRequest::mutable_prompt));
  const auto sampling = [](auto set) {
    return [=](v1::DecodeRequest& r) { set(*r.mutable_sampling()); };
  };
  const auto bias = [](int token, float value) {
    return [=](v1::DecodeRequest& r) {
      auto* entry = r.mutable_sampling()->add_logit_bias();
      entry->set_token_id(token);
      entry->set_bias(value);
    };
  };
  Send<v1::DecodeRequest>(
      good, call,
      {{"negative branches", [](auto& r) { r.set_branches(-1); }, "branches"},
       {"too many branches", [](auto& r) { r.set_branches(65); }, "branches"},
       {"negative tokens", [](auto& r) { r.set_max_tokens(-1); }, "max_tokens"},
       {"too many tokens", [](auto& r) { r.set_max_tokens((1 << 20) + 1); }, "max_tokens"},
       {"temperature", sampling([](auto& s) { s.set_temperature(-0.1f); }), "sampling.temperature"},
       {"hot", sampling([](auto& s) { s.set_temperature(10.1f); }), "sampling.temperature"},
       {"NaN temperature", sampling([](auto& s) { s.set_temperature(kNan); }),
        "sampling.temperature"},
       {"top_k", sampling([](auto& s) { s.set_top_k(-1); }), "sampling.top_k"},
       {"top_p", sampling([](auto& s) { s.set_top_p(1.1f); }), "sampling.top_p"},
       {"NaN top_p", sampling([](auto& s) { s.set_top_p(kNan); }), "sampling.top_p"},
       {"min_p", sampling([](auto& s) { s.set_min_p(1.0f); }), "sampling.min_p"},
       {"presence", sampling([](auto& s) { s.set_presence_penalty(10.5f); }),
        "sampling.presence_penalty"},
       {"frequency", sampling([](auto& s) { s.set_frequency_penalty(-kInfinity); }),
        "sampling.frequency_penalty"},
       {"decay", sampling([](auto& s) { s.set_penalty_decay(1.5f); }), "sampling.penalty_decay"},
       {"bias of no token", bias(256, 1), "sampling.logit_bias[0].token_id"},
       {"large bias", bias(1, 101), "sampling.logit_bias[0].bias"},
       {"NaN bias", bias(1, kNan), "sampling.logit_bias[0].bias"},
       {"a token's bias twice",
        [=](auto& r) {
          bias(1, 1)(r);
          bias(1, 2)(r);
        },
        "sampling.logit_bias"},
       {"too many biases",
        [=](auto& r) {
          for (int i = 0; i < 1025; ++i) bias(i % 256, 1)(r);
        },
        "sampling.logit_bias"},
       {"empty stop", [](auto& r) { r.add_stop(std::string()); }, "stop[0]"},
       {"long stop",
        [](auto& r) {
          r.add_stop(std::string(1, 'a'));
          r.add_stop(std::string(257, 'x'));
        },
        "stop[1]"},
       {"too many stops",
        [](auto& r) {
          for (int i = 0; i < 17; ++i) r.add_stop(std::string(1, 'x'));
        },
        "stop"},
       {"negative log-probabilities", [](auto& r) { r.set_top_log_probs(-1); }, "top_log_probs"},
       {"too many log-probabilities", [](auto& r) { r.set_top_log_probs(21); }, "top_log_probs"},
       {"label", [](auto& r) { r.mutable_save_state()->mutable_annotations()->add_labels(""); },
        "save_state.annotations.labels[0]"},
       {"time to live",
        [](auto& r) {
          r.mutable_save_state()->mutable_annotations()->mutable_time_to_live()->set_seconds(-1);
        },
        "save_state.annotations.time_to_live"},
       {"request id",
        [](auto& r) { r.mutable_save_state()->set_request_id(std::string(129, 'x')); },
        "save_state.request_id"}});
}

TEST_F(Malformed, DecodeBatch) {
  const auto good = [](const std::string& id) {
    v1::DecodeBatchRequest message;
    message.set_id(id);
    *message.mutable_request() = testing::SeededDecode(state_, 1, 2);
    return message;
  };
  using Errors = std::map<std::string, google::rpc::Status>;
  const auto send = [](const std::vector<v1::DecodeBatchRequest>& messages) {
    grpc::ClientContext context;
    testing::SetDeadline(context);
    auto stream = session_->decode->DecodeBatch(&context);
    for (const auto& message : messages) {
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
    Errors errors;
    v1::DecodeBatchResponse response;
    while (stream->Read(&response)) {
      if (response.has_error()) errors[response.id()] = response.error();
    }
    return std::pair(stream->Finish(), errors);
  };
  // What is wrong with one decode is said to it, as Decode says it, and its neighbours go on.
  const auto as_grpc = [](const google::rpc::Status& status) {
    return grpc::Status(static_cast<StatusCode>(status.code()), status.message(),
                        status.SerializeAsString());
  };
  const std::function<grpc::Status(const v1::DecodeRequest&)> one_of_many =
      [&](const v1::DecodeRequest& request) {
        v1::DecodeBatchRequest bad = good("bad");
        *bad.mutable_request() = request;
        const auto [status, errors] = send({good("before"), bad, good("after")});
        EXPECT_TRUE(status.ok()) << status.error_message();
        EXPECT_EQ(errors.size(), 1u);
        return errors.count("bad") > 0 ? as_grpc(errors.at("bad")) : grpc::Status::OK;
      };
  const auto good_request = [&] { return good("").request(); };
  Send<v1::DecodeRequest>(good_request, one_of_many, BadSources<v1::DecodeRequest>());
  Send<v1::DecodeRequest>(
      good_request, one_of_many,
      BadTexts<v1::DecodeRequest>("prompt", &v1::DecodeRequest::mutable_prompt));
  {
    v1::DecodeBatchRequest without = good("without");
    without.clear_request();
    // Against an empty one: what the good one has in it is not what is spoilt here.
    v1::DecodeBatchRequest empty = without;
    empty.mutable_request();
    Note(empty, without);
    const auto [status, errors] = send({without, good("after")});
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(FieldOf(as_grpc(errors.at("without"))), "request");
  }
  // An id that is none cannot be answered: the stream ends.
  v1::DecodeBatchRequest runs = good("runs");
  *runs.mutable_request() = testing::EndlessDecode(1 << 20, 0);
  for (const auto& [kind, id] : std::vector<std::pair<const char*, std::string>>{
           {"no id", ""}, {"long id", std::string(257, 'x')}, {"id of one that runs", "runs"}}) {
    SCOPED_TRACE(kind);
    Note(good("good"), good(id));
    const grpc::Status status = send({runs, good(id)}).first;
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(FieldOf(status), "id");
  }
}

TEST_F(Malformed, Score) {
  const auto good = [] {
    v1::ScoreRequest request;
    request.mutable_source()->set_state(state_);
    request.mutable_target()->set_text("a king");
    return request;
  };
  const std::function<grpc::Status(const v1::ScoreRequest&)> call =
      [](const v1::ScoreRequest& request) { return session_->Score(request).first; };
  ASSERT_TRUE(call(good()).ok());
  Send<v1::ScoreRequest>(good, call, BadSources<v1::ScoreRequest>());
  Send<v1::ScoreRequest>(good, call,
                         BadTexts<v1::ScoreRequest>("context", &v1::ScoreRequest::mutable_context));
  Send<v1::ScoreRequest>(good, call,
                         BadTexts<v1::ScoreRequest>("target", &v1::ScoreRequest::mutable_target));
  Send<v1::ScoreRequest>(
      good, call,
      {{"no target", [](auto& r) { r.clear_target(); }, "target"},
       {"empty target", [](auto& r) { r.mutable_target()->set_text(""); }, "target"}});
}

}  // namespace
}  // namespace dreamstate
