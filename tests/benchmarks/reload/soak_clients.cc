#include "tests/benchmarks/reload/soak_clients.h"

#include <chrono>

#include "core/base/draws.h"
#include "core/base/strings.h"

namespace dreamstate::benchmarks {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kDecodedTokens = 64;
constexpr int kEndToken = 0;

std::string Words(Draws& draws, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += static_cast<char>('a' + draws.Below(26));
  return text;
}

}  // namespace

bool MakeCall(testing::Session& session, const std::string& source, SoakCall* call,
              std::string* failure) {
  if (call->kind == SoakCall::kScore) {
    v1::ScoreRequest request;
    request.mutable_target()->set_text(call->text);
    const auto [status, response] = session.Score(request);
    *failure = status.error_message();
    call->version = response.model_version();
    call->nats = response.total_nats();
    return status.ok();
  }
  v1::DecodeRequest request = testing::EndlessDecode(kDecodedTokens, kEndToken);
  request.mutable_sampling()->set_seed(call->seed);
  if (call->kind == SoakCall::kContinue) {
    request.mutable_source()->set_state(source);
  } else {
    request.mutable_prompt()->set_text(call->text);
  }
  grpc::ClientContext context;
  testing::SetDeadline(context);
  const auto stream = session.decode->Decode(&context, request);
  v1::DecodeResponse response;
  Clock::time_point first, last;
  while (stream->Read(&response)) {
    if (response.has_start()) call->version = response.start().model_version();
    if (!response.has_piece()) continue;
    last = Clock::now();
    if (call->tokens.empty()) first = last;
    const auto& ids = response.piece().piece().token_ids();
    call->tokens.insert(call->tokens.end(), ids.begin(), ids.end());
  }
  const grpc::Status status = stream->Finish();
  *failure = status.error_message();
  if (!status.ok()) return false;
  if (call->tokens.size() != kDecodedTokens) {
    *failure = StrCat("expected ", kDecodedTokens, " tokens, found ", call->tokens.size());
    return false;
  }
  call->seconds_per_token =
      std::chrono::duration<double>(last - first).count() / (kDecodedTokens - 1);
  return true;
}

SoakLog RunSoakClient(const std::string& address, uint64_t client, double state_life_seconds,
                      const std::atomic<bool>& stop) {
  testing::Session session(address);
  SoakLog log;
  Draws draws(client, 0, 0);
  std::string state, state_text;
  Clock::time_point made;
  for (uint64_t number = 0; !stop; ++number) {
    const bool stale = state.empty() || std::chrono::duration<double>(Clock::now() - made).count() >
                                            state_life_seconds;
    if (stale || number % 4 == 3) {
      // A state that may grow too old is replaced before it is used.
      made = Clock::now();
      state_text = Words(draws, 96);
      v1::HarvestOptions options;
      // Longer than it is used, and short beside the run: the store must not grow all along.
      options.mutable_annotations()->mutable_time_to_live()->set_seconds(
          10 + static_cast<int64_t>(5 * state_life_seconds));
      v1::Document document;
      document.set_id("document");
      document.mutable_content()->set_text(state_text);
      const testing::Harvested harvested = session.Harvest(options, {document});
      ++log.harvests;
      if (!harvested.status.ok() || harvested.states.size() != 1) {
        log.failures.push_back("harvest: " + harvested.status.error_message());
        continue;
      }
      state = harvested.states[0].state().name();
      if (stale) continue;
    }
    constexpr SoakCall::Kind kKinds[] = {SoakCall::kDecode, SoakCall::kContinue, SoakCall::kScore,
                                         SoakCall::kContinue};
    SoakCall call;
    call.kind = kKinds[number % 4];
    call.seed = (client << 32) + number;
    call.text = call.kind == SoakCall::kContinue ? state_text : Words(draws, 48);
    std::string failure;
    if (MakeCall(session, state, &call, &failure)) {
      log.calls.push_back(std::move(call));
    } else {
      log.failures.push_back(StrCat("call of kind ", static_cast<int>(call.kind), ": ", failure));
    }
  }
  return log;
}

}  // namespace dreamstate::benchmarks
