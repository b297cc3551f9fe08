#include "client/cli/decode_batch.h"

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/arguments.h"
#include "client/cli/batch_lines.h"
#include "client/cli/exit_codes.h"
#include "client/cli/files.h"
#include "client/cli/progress_bar.h"
#include "client/rpc_status.h"
#include "nlohmann/json.hpp"

namespace dreamstate::cli {
namespace {

using nlohmann::ordered_json;

constexpr int64_t kMaxFileBytes = 1 << 30;

absl::StatusOr<std::string> ReadWhole(const std::string& path, Interrupts& interrupts) {
  absl::StatusOr<std::unique_ptr<InputFile>> file = InputFile::Open(path, interrupts);
  if (!file.ok()) return file.status();
  if ((*file)->size() > kMaxFileBytes)
    return UsageError(absl::StrCat(path, ": larger than ", ShowBytes(kMaxFileBytes), "; split it"));
  return (*file)->ReadAt(0, static_cast<size_t>((*file)->size()));
}

// What came of the decodes that run.
class Results {
 public:
  Results(Output& output, size_t count) : output_(output), count_(count) {}

  absl::Status Take(const std::string& id, const v1::DecodeResponse& response) {
    if (output_.json()) {
      v1::DecodeBatchResponse line;
      line.set_id(id);
      *line.mutable_response() = response;
      output_.Json(line);
    } else {
      Gather(response, running_[id]);
    }
    tokens_ += response.piece().piece().token_ids_size();
    ShowProgress();
    return absl::OkStatus();
  }

  absl::Status End(const std::string& id, const absl::Status& outcome) {
    ++ended_;
    if (!outcome.ok()) ++failed_;
    if (output_.json()) {
      v1::DecodeBatchResponse line;
      line.set_id(id);
      if (outcome.ok()) {
        line.mutable_done();
      } else {
        line.mutable_error()->set_code(static_cast<int>(outcome.code()));
        line.mutable_error()->set_message(client::Explain(outcome));
      }
      output_.Json(line);
    } else {
      ordered_json line = {{"id", id}};
      if (outcome.ok()) {
        line.update(running_[id].start);
        ordered_json branches = ordered_json::array();
        for (auto& [number, branch] : running_[id].branches) branches.push_back(std::move(branch));
        line["branches"] = std::move(branches);
      } else {
        line["error"] = {{"code", absl::StatusCodeToString(outcome.code())},
                         {"message", client::Explain(outcome)}};
      }
      output_.Line(line.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
    }
    running_.erase(id);
    ShowProgress();
    return absl::OkStatus();
  }

  // What is worth knowing at the end.
  absl::Status Finish() {
    output_.Progress("");
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin_);
    output_.Note(absl::StrFormat("%s, %s tokens in %.2f s", ShowNumber(ended_, "decode"),
                                 ShowCount(tokens_), seconds));
    if (failed_ == 0) return absl::OkStatus();
    return PartFailedError(absl::StrCat(failed_, " of ", ShowNumber(ended_, "decode"), " failed"));
  }

 private:
  struct Running {
    ordered_json start = ordered_json::object();
    std::map<int, ordered_json> branches;
  };

  static void Gather(const v1::DecodeResponse& response, Running& running) {
    if (response.has_start()) {
      const v1::DecodeStart& start = response.start();
      running.start = {{"modelVersion", start.model_version()},
                       {"seed", absl::StrCat(start.seed())},
                       {"promptTokens", start.prompt_tokens()},
                       {"reusedTokens", start.reused_tokens()}};
    } else if (response.has_piece()) {
      ordered_json& text = running.branches[response.piece().branch()]["text"];
      text = (text.is_string() ? text.get<std::string>() : std::string()) +
             response.piece().piece().text();
    } else if (response.has_finish()) {
      const v1::DecodeFinish& finish = response.finish();
      ordered_json& branch = running.branches[finish.branch()];
      if (!branch.contains("text")) branch["text"] = "";
      branch["reason"] = v1::DecodeFinish::Reason_Name(finish.reason());
      branch["generatedTokens"] = finish.generated_tokens();
      if (finish.has_saved_state()) branch["savedState"] = finish.saved_state().name();
    }
  }

  void ShowProgress() {
    if (!output_.shows_progress()) return;
    const double seconds = absl::ToDoubleSeconds(absl::Now() - begin_);
    const double rate = seconds > 0 ? static_cast<double>(tokens_) / seconds : 0;
    output_.Progress(absl::StrCat(ProgressBar(ended_, static_cast<int64_t>(count_)), " ", ended_,
                                  "/", count_, " decodes, ", ShowCount(tokens_), " tokens, ",
                                  ShowCount(static_cast<int64_t>(rate)), " tokens/s"));
  }

  Output& output_;
  const size_t count_;
  const absl::Time begin_ = absl::Now();
  std::map<std::string, Running> running_;
  int64_t ended_ = 0, failed_ = 0, tokens_ = 0;
};

}  // namespace

absl::Status DecodeBatch(Session& session, const std::string& file, const v1::DecodeRequest& base) {
  const absl::StatusOr<std::string> lines = ReadWhole(file, session.interrupts());
  if (!lines.ok()) return lines.status();
  absl::StatusOr<std::vector<v1::DecodeBatchRequest>> requests =
      ParseBatch(file == "-" ? "standard input" : file, *lines, base);
  if (!requests.ok()) return requests.status();
  absl::StatusOr<client::Client*> client = session.Connect();
  if (!client.ok()) return client.status();

  Results results(session.output(), requests->size());
  const client::BatchRequestAt request_at =
      [&](int64_t index) -> absl::StatusOr<std::optional<v1::DecodeBatchRequest>> {
    if (index >= static_cast<int64_t>(requests->size()))
      return std::optional<v1::DecodeBatchRequest>();
    return (*requests)[static_cast<size_t>(index)];
  };
  client::DecodeBatchHandlers handlers;
  handlers.on_response = [&](const std::string& id, const v1::DecodeResponse& response) {
    return results.Take(id, response);
  };
  handlers.on_end = [&](const std::string& id, const absl::Status& outcome) {
    return results.End(id, outcome);
  };
  const absl::Status status = (*client)->DecodeBatch(request_at, handlers, session.Call());
  const absl::Status finished = results.Finish();
  return status.ok() ? finished : status;
}

}  // namespace dreamstate::cli
