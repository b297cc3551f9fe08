// Every RPC answers each kind of malformed request with the right code and field path, and the
// server goes on serving.
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/end_to_end/malformed_fixture.h"

namespace dreamstate {
namespace {

using grpc::StatusCode;
using testing::FieldOf;
using testing::Harvested;
using testing::Malformed;
using ::testing::StartsWith;

TEST_F(Malformed, HarvestOptions) {
  const std::function<grpc::Status(const v1::HarvestOptions&)> call =
      [](const v1::HarvestOptions& options) { return session_->Harvest(options, {}).status; };
  Send<v1::HarvestOptions>(
      [] { return v1::HarvestOptions(); }, call,
      {{"malformed model", [](auto& o) { o.set_model("tiny"); }, "options.model"},
       {"unknown model", [](auto& o) { o.set_model("models/unknown"); }, "", StatusCode::NOT_FOUND},
       {"label", [](auto& o) { o.mutable_annotations()->add_labels(""); },
        "options.annotations.labels[0]"},
       {"time to live",
        [](auto& o) { o.mutable_annotations()->mutable_time_to_live()->set_seconds(-1); },
        "options.annotations.time_to_live"},
       {"malformed source", [](auto& o) { o.set_source_state("x"); }, "options.source_state"},
       {"unknown source", [](auto& o) { o.set_source_state("states/00000000000000000000000000"); },
        "", StatusCode::NOT_FOUND},
       {"request id", [](auto& o) { o.set_request_id(std::string(129, 'x')); },
        "options.request_id"}});
}

TEST_F(Malformed, HarvestStreams) {
  v1::HarvestStatesRequest options, document, nothing;
  options.mutable_options();
  document.mutable_document()->set_id("d");
  document.mutable_document()->mutable_content()->set_text("text");
  const auto send = [](const std::vector<v1::HarvestStatesRequest>& messages) {
    grpc::ClientContext context;
    testing::SetDeadline(context);
    auto stream = session_->states->HarvestStates(&context);
    for (const auto& message : messages) {
      if (!stream->Write(message)) break;
    }
    stream->WritesDone();
    v1::HarvestStatesResponse response;
    while (stream->Read(&response)) {
    }
    return stream->Finish();
  };
  const std::vector<std::pair<std::vector<v1::HarvestStatesRequest>, std::string>> table = {
      {{}, "options"},
      {{nothing}, "options"},
      {{document}, "options"},
      {{options, options}, "options"},
      {{options, nothing}, "document"},
  };
  for (const auto& [messages, field] : table) {
    for (const v1::HarvestStatesRequest& message : messages) Note(nothing, message);
    const grpc::Status status = send(messages);
    EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT) << status.error_message();
    EXPECT_EQ(FieldOf(status), field) << status.error_message();
  }
  EXPECT_TRUE(send({options, document}).ok());
}

TEST_F(Malformed, ABadDocumentEndsNeitherTheStreamNorItsNeighbours) {
  const auto good = [](const std::string& id) {
    v1::Document document;
    document.set_id(id);
    document.mutable_content()->set_text("0123456789");
    return document;
  };
  struct BadDocument {
    const char* id;
    std::function<void(v1::Document&)> spoil;
    std::string says;
  };
  const std::vector<BadDocument> table = {
      {"empty id", [](auto& d) { d.clear_id(); }, "document.id"},
      {"long id", [](auto& d) { d.set_id(std::string(257, 'x')); }, "document.id"},
      {"repeated id", [](auto& d) { d.set_id("first"); }, "document.id"},
      {"long label", [](auto& d) { d.set_label(std::string(129, 'x')); }, "document.label"},
      {"control label", [](auto& d) { d.set_label("a\tb"); }, "document.label"},
      {"no content", [](auto& d) { d.clear_content(); }, "document.content"},
      {"empty content", [](auto& d) { d.mutable_content()->set_text(""); }, "document.content"},
      {"token", [](auto& d) { d.mutable_content()->mutable_tokens()->add_ids(999); },
       "document.content.tokens.ids[0]"},
      {"reserved", [](auto& d) { d.mutable_content()->set_raw(std::string(1, '\0')); },
       "document.content.raw"},
      {"no positions", [](auto& d) { d.mutable_positions(); }, "document.positions.values"},
      {"position 0", [](auto& d) { d.mutable_positions()->add_values(0); },
       "document.positions.values[0]"},
      {"position beyond", [](auto& d) { d.mutable_positions()->add_values(11); },
       "document.positions.values[0]"},
      {"positions not ascending",
       [](auto& d) {
         d.mutable_positions()->add_values(5);
         d.mutable_positions()->add_values(5);
       },
       "document.positions.values[1]"},
      {"every 0", [](auto& d) { d.set_every_n(0); }, "document.every_n"},
      {"every -1", [](auto& d) { d.set_every_n(-1); }, "document.every_n"},
  };
  std::vector<v1::Document> documents = {good("first")};
  for (const BadDocument& bad : table) {
    documents.push_back(good(bad.id));
    bad.spoil(documents.back());
    Note(good(bad.id), documents.back());
  }
  documents.push_back(good("last"));
  const Harvested result = session_->Harvest({}, documents);
  ASSERT_TRUE(result.status.ok()) << result.status.error_message();
  EXPECT_EQ(result.states.size(), 2u);
  ASSERT_EQ(result.errors.size(), table.size());
  for (size_t i = 0; i < table.size(); ++i) {
    EXPECT_EQ(result.errors[i].code(), static_cast<int>(StatusCode::INVALID_ARGUMENT));
    EXPECT_THAT(result.errors[i].message(), StartsWith(table[i].says + ":")) << table[i].id;
  }
  ASSERT_TRUE(result.summary.has_value());
  EXPECT_EQ(result.summary->errors(), static_cast<int64_t>(table.size()));
}

}  // namespace
}  // namespace dreamstate
