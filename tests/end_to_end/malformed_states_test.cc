// Every RPC answers each kind of malformed request with the right code and field path, and the
// server goes on serving.
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "tests/end_to_end/malformed_fixture.h"
#include "tests/end_to_end/malformed_rows.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using testing::BadNames;
using testing::FieldOf;
using testing::kLongName;
using testing::Malformed;
using testing::Row;
using testing::Unary;

TEST_F(Malformed, StateServiceUnaryMethods) {
  using States = v1::StateService::Stub;
  const auto bad_names = [](auto request) {
    using Request = decltype(request);
    return std::vector<Row<Request>>{
        {"no name", [](auto& r) { r.clear_name(); }, "name"},
        {"no collection", [](auto& r) { r.set_name("abc"); }, "name"},
        {"no id", [](auto& r) { r.set_name("states/"); }, "name"},
        {"path", [](auto& r) { r.set_name("states/../models"); }, "name"},
        {"upper case", [](auto& r) { r.set_name("states/ABC"); }, "name"},
        {"NUL", [](auto& r) { r.set_name(std::string("states/a\0b", 10)); }, "name"},
        {"huge", [](auto& r) { r.set_name("states/" + kLongName); }, "name"},
        {"unknown", [](auto& r) { r.set_name("states/00000000000000000000000000"); }, "",
         StatusCode::NOT_FOUND}};
  };
  Send<v1::GetStateRequest>(
      [] { return v1::GetStateRequest(); },
      Unary<States, decltype(&States::GetState), v1::GetStateRequest, v1::State>(*session_->states,
                                                                                 &States::GetState),
      bad_names(v1::GetStateRequest()));
  const auto remove = Unary<States, decltype(&States::DeleteState), v1::DeleteStateRequest,
                            v1::DeleteStateResponse>(*session_->states, &States::DeleteState);
  const auto good_delete = [] {
    v1::DeleteStateRequest request;
    request.set_name(state_);
    return request;
  };
  Send<v1::DeleteStateRequest>(good_delete, remove, bad_names(v1::DeleteStateRequest()));
  Send<v1::DeleteStateRequest>(
      good_delete, remove,
      {{"huge etag", [](auto& r) { r.set_etag(kLongName); }, "etag"},
       {"huge request id", [](auto& r) { r.set_request_id(kLongName); }, "request_id"},
       {"other etag", [](auto& r) { r.set_etag("x"); }, "", StatusCode::ABORTED}});

  Send<v1::ListStatesRequest>(
      [] { return v1::ListStatesRequest(); },
      Unary<States, decltype(&States::ListStates), v1::ListStatesRequest, v1::ListStatesResponse>(
          *session_->states, &States::ListStates),
      {{"negative page", [](auto& r) { r.set_page_size(-1); }, "page_size"},
       {"page over the limit", [](auto& r) { r.set_page_size(1001); }, "page_size"},
       {"page token", [](auto& r) { r.set_page_token("no token"); }, "page_token"},
       {"huge page token", [](auto& r) { r.set_page_token(kLongName); }, "page_token"},
       {"model", [](auto& r) { r.set_model("tiny"); }, "model"},
       {"empty label", [](auto& r) { r.add_labels(""); }, "labels[0]"},
       {"long label",
        [](auto& r) {
          r.add_labels("good");
          r.add_labels(std::string(129, 'x'));
        },
        "labels[1]"},
       {"parent", [](auto& r) { r.set_parent("nobody"); }, "parent"},
       {"fingerprint", [](auto& r) { r.set_backbone_fingerprint("abc"); }, "backbone_fingerprint"},
       {"order", [](auto& r) { r.set_order(static_cast<v1::ListStatesRequest::Order>(99)); },
        "order"}});

  const auto update =
      Unary<States, decltype(&States::UpdateState), v1::UpdateStateRequest, v1::State>(
          *session_->states, &States::UpdateState);
  const auto good_update = [] {
    v1::UpdateStateRequest request;
    request.set_name(state_);
    return request;
  };
  Send<v1::UpdateStateRequest>(good_update, update, bad_names(v1::UpdateStateRequest()));
  const auto ttl = [](auto& r) { return r.mutable_annotations()->mutable_time_to_live(); };
  Send<v1::UpdateStateRequest>(
      good_update, update,
      {{"mask",
        [](auto& r) {
          r.mutable_update_mask()->add_paths("labels");
          r.mutable_update_mask()->add_paths("name");
        },
        "update_mask.paths[1]"},
       {"empty label", [](auto& r) { r.mutable_annotations()->add_labels(""); },
        "annotations.labels[0]"},
       {"control character in a label",
        [](auto& r) { r.mutable_annotations()->add_labels("a\nb"); }, "annotations.labels[0]"},
       {"too many labels",
        [](auto& r) {
          for (int i = 0; i < 65; ++i) r.mutable_annotations()->add_labels(std::to_string(i));
        },
        "annotations.labels"},
       {"negative time to live", [=](auto& r) { ttl(r)->set_seconds(-1); },
        "annotations.time_to_live"},
       {"time to live over ten years", [=](auto& r) { ttl(r)->set_seconds(400'000'000); },
        "annotations.time_to_live"},
       {"no duration at all", [=](auto& r) { ttl(r)->set_nanos(2'000'000'000); },
        "annotations.time_to_live"},
       {"duration out of its own range",
        [=](auto& r) { ttl(r)->set_seconds(std::numeric_limits<int64_t>::max()); },
        "annotations.time_to_live"},
       {"huge etag", [](auto& r) { r.set_etag(kLongName); }, "etag"},
       {"request id", [](auto& r) { r.set_request_id(std::string(129, 'x')); }, "request_id"},
       {"other etag", [](auto& r) { r.set_etag("x"); }, "", StatusCode::ABORTED}});

  const auto migrate =
      Unary<States, decltype(&States::MigrateState), v1::MigrateStateRequest, v1::State>(
          *session_->states, &States::MigrateState);
  const auto good_migrate = [] {
    v1::MigrateStateRequest request;
    request.set_name(state_);
    return request;
  };
  Send<v1::MigrateStateRequest>(good_migrate, migrate, bad_names(v1::MigrateStateRequest()));
  Send<v1::MigrateStateRequest>(
      good_migrate, migrate,
      {{"model", [](auto& r) { r.set_model("tiny"); }, "model"},
       {"unknown model", [](auto& r) { r.set_model("models/nobody"); }, "", StatusCode::NOT_FOUND},
       {"empty label", [](auto& r) { r.mutable_annotations()->add_labels(""); },
        "annotations.labels[0]"},
       {"negative time to live", [=](auto& r) { ttl(r)->set_seconds(-1); },
        "annotations.time_to_live"},
       {"huge request id", [](auto& r) { r.set_request_id(kLongName); }, "request_id"},
       {"a state that is where it belongs", [](auto& r) { r.set_request_id("x"); }, "",
        StatusCode::FAILED_PRECONDITION}});
}

TEST_F(Malformed, DeleteStates) {
  using States = v1::StateService::Stub;
  const auto timestamp = [](auto& r) { return r.mutable_created_before(); };
  Send<v1::DeleteStatesRequest>(
      [] {
        v1::DeleteStatesRequest request;
        request.set_all(true);
        return request;
      },
      Unary<States, decltype(&States::DeleteStates), v1::DeleteStatesRequest,
            v1::DeleteStatesResponse>(*session_->states, &States::DeleteStates),
      {{"nothing set", [](auto& r) { r.clear_all(); }, "all"},
       {"nothing set, dry",
        [](auto& r) {
          r.clear_all();
          r.set_dry_run(true);
        },
        "all"},
       {"model", [](auto& r) { r.set_model("tiny"); }, "model"},
       {"huge model", [](auto& r) { r.set_model("models/" + kLongName); }, "model"},
       {"empty label", [](auto& r) { r.add_labels(""); }, "labels[0]"},
       {"long label",
        [](auto& r) {
          r.add_labels("good");
          r.add_labels(std::string(129, 'x'));
        },
        "labels[1]"},
       {"too many labels",
        [](auto& r) {
          for (int i = 0; i < 65; ++i) r.add_labels(std::to_string(i));
        },
        "labels"},
       {"parent", [](auto& r) { r.set_parent("nobody"); }, "parent"},
       {"fingerprint", [](auto& r) { r.set_backbone_fingerprint("abc"); }, "backbone_fingerprint"},
       {"upper-case fingerprint", [](auto& r) { r.set_backbone_fingerprint(std::string(64, 'A')); },
        "backbone_fingerprint"},
       {"negative nanoseconds", [=](auto& r) { timestamp(r)->set_nanos(-1); }, "created_before"},
       {"nanoseconds of more than a second",
        [=](auto& r) { timestamp(r)->set_nanos(1'000'000'000); }, "created_before"},
       {"seconds out of range",
        [=](auto& r) { timestamp(r)->set_seconds(std::numeric_limits<int64_t>::max()); },
        "created_before"},
       {"seconds before year 1",
        [=](auto& r) { timestamp(r)->set_seconds(std::numeric_limits<int64_t>::min()); },
        "created_before"},
       {"request id", [](auto& r) { r.set_request_id(std::string(129, 'x')); }, "request_id"}});
}

TEST_F(Malformed, NumbersOfStatesAndLineages) {
  using States = v1::StateService::Stub;
  const auto set_name = [](auto& r, const std::string& name) { r.set_name(name); };
  Send<v1::DescribeStateRequest>(
      [] { return v1::DescribeStateRequest(); },
      Unary<States, decltype(&States::DescribeState), v1::DescribeStateRequest,
            v1::DescribeStateResponse>(*session_->states, &States::DescribeState),
      BadNames<v1::DescribeStateRequest>("name", set_name));

  const auto compare = Unary<States, decltype(&States::CompareStates), v1::CompareStatesRequest,
                             v1::CompareStatesResponse>(*session_->states, &States::CompareStates);
  const auto good_compare = [] {
    v1::CompareStatesRequest request;
    request.set_first(state_);
    request.set_second(state_);
    return request;
  };
  ASSERT_TRUE(compare(good_compare()).ok());
  Send<v1::CompareStatesRequest>(
      good_compare, compare,
      BadNames<v1::CompareStatesRequest>(
          "first", [](auto& r, const std::string& name) { r.set_first(name); }));
  Send<v1::CompareStatesRequest>(
      good_compare, compare,
      BadNames<v1::CompareStatesRequest>(
          "second", [](auto& r, const std::string& name) { r.set_second(name); }));

  const auto project = Unary<States, decltype(&States::ProjectStates), v1::ProjectStatesRequest,
                             v1::ProjectStatesResponse>(*session_->states, &States::ProjectStates);
  const auto good_project = [] {
    v1::ProjectStatesRequest request;
    for (int i = 0; i < 4; ++i) request.add_names(state_);
    request.set_method(v1::ProjectStatesRequest::T_SNE);
    request.set_perplexity(2);
    request.set_seed(1);
    request.add_layers(0);
    return request;
  };
  ASSERT_TRUE(project(good_project()).ok());
  Send<v1::ProjectStatesRequest>(
      good_project, project,
      BadNames<v1::ProjectStatesRequest>(
          "names[2]", [](auto& r, const std::string& name) { r.set_names(2, name); }));
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Send<v1::ProjectStatesRequest>(
      good_project, project,
      {{"no names", [](auto& r) { r.clear_names(); }, "names"},
       {"two names", [](auto& r) { r.mutable_names()->DeleteSubrange(0, 2); }, "names"},
       {"too many names",
        [](auto& r) {
          while (r.names_size() <= 2000) r.add_names(state_);
        },
        "names"},
       {"unknown method",
        [](auto& r) { r.set_method(static_cast<v1::ProjectStatesRequest::Method>(3)); }, "method"},
       {"negative method",
        [](auto& r) { r.set_method(static_cast<v1::ProjectStatesRequest::Method>(-1)); }, "method"},
       {"perplexity too small", [](auto& r) { r.set_perplexity(1.5f); }, "perplexity"},
       {"perplexity too large", [](auto& r) { r.set_perplexity(100.5f); }, "perplexity"},
       {"perplexity of more states", [](auto& r) { r.set_perplexity(3.5f); }, "perplexity"},
       {"perplexity NaN", [](auto& r) { r.set_perplexity(std::nanf("")); }, "perplexity"},
       {"perplexity infinite", [=](auto& r) { r.set_perplexity(kInfinity); }, "perplexity"},
       {"negative layer", [](auto& r) { r.add_layers(-1); }, "layers[1]"},
       {"layer behind the last", [](auto& r) { r.add_layers(1 << 20); }, "layers[1]"},
       {"layer twice", [](auto& r) { r.add_layers(0); }, "layers[1]"}});

  const auto lineage =
      Unary<States, decltype(&States::GetLineage), v1::GetLineageRequest, v1::GetLineageResponse>(
          *session_->states, &States::GetLineage);
  const auto good_lineage = [] {
    v1::GetLineageRequest request;
    request.set_name(state_);
    return request;
  };
  Send<v1::GetLineageRequest>(good_lineage, lineage,
                              BadNames<v1::GetLineageRequest>("name", set_name));
  Send<v1::GetLineageRequest>(
      good_lineage, lineage,
      {{"negative ancestors", [](auto& r) { r.set_ancestor_generations(-1); },
        "ancestor_generations"},
       {"too many ancestors", [](auto& r) { r.set_ancestor_generations(1001); },
        "ancestor_generations"},
       {"negative descendants", [](auto& r) { r.set_descendant_generations(-1); },
        "descendant_generations"},
       {"too many descendants", [](auto& r) { r.set_descendant_generations(1001); },
        "descendant_generations"}});
}

}  // namespace
}  // namespace dreamstate
