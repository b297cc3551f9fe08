#include "server/inference/text_assembler.h"

#include <algorithm>
#include <utility>

namespace dreamstate::server {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    Automaton automaton{.text = stop, .fallback = std::vector<uint16_t>(stop.size(), 0)};
    for (size_t i = 1, border = 0; i < stop.size(); ++i) {
      while (border > 0 && stop[i] != stop[border]) border = automaton.fallback[border - 1];
      if (stop[i] == stop[border]) ++border;
      automaton.fallback[i] = static_cast<uint16_t>(border);
    }
    automata_.push_back(std::move(automaton));
  }
}

std::optional<StopMatcher::Match> StopMatcher::Push(char byte) {
  std::optional<Match> match;
  for (size_t i = 0; i < automata_.size(); ++i) {
    Automaton& a = automata_[i];
    while (a.matched > 0 && a.text[a.matched] != byte) a.matched = a.fallback[a.matched - 1];
    if (a.text[a.matched] == byte) ++a.matched;
    if (a.matched < a.text.size()) continue;
    if (!match || a.text.size() > match->bytes) match = Match{static_cast<int>(i), a.text.size()};
    a.matched = a.fallback[a.matched - 1];
  }
  return match;
}

size_t StopMatcher::held_bytes() const {
  size_t held = 0;
  for (const Automaton& automaton : automata_) held = std::max(held, automaton.matched);
  return held;
}

std::optional<int> TextAssembler::Push(int32_t token, std::string_view bytes,
                                       std::optional<rwkv::LogProbs> log_probs) {
  open_.push_back({token, released_ + held_.size() + bytes.size(), std::move(log_probs)});
  for (const char byte : bytes) {
    held_.push_back(byte);
    const std::optional<StopMatcher::Match> match = matcher_.Push(byte);
    if (!match) continue;
    held_.resize(held_.size() - match->bytes);
    Finish();
    open_.clear();
    return match->stop;
  }
  Release(held_.size() - matcher_.held_bytes());
  return std::nullopt;
}

void TextAssembler::Release(size_t bytes) {
  if (bytes > 0) {
    const std::string_view out = std::string_view(held_).substr(0, bytes);
    ready_.mutable_text()->append(utf8_.Push(out));
    raw_.append(out);
    released_ += bytes;
    held_.erase(0, bytes);
  }
  CompleteTokens();
}

void TextAssembler::CompleteTokens() {
  const size_t complete = raw_.size() - utf8_.pending_bytes();
  ready_.mutable_raw()->append(raw_, 0, complete);
  raw_.erase(0, complete);
  const uint64_t out = released_ - raw_.size();
  while (!open_.empty() && open_.front().end <= out) {
    const Token& token = open_.front();
    ready_.add_token_ids(token.id);
    if (token.log_probs) {
      v1::TokenLogProbs* message = ready_.add_log_probs();
      message->set_log_prob(token.log_probs->log_prob);
      for (const auto& [id, log_prob] : token.log_probs->top) {
        v1::TokenLogProbs::Alternative* alternative = message->add_top();
        alternative->set_token_id(id);
        alternative->set_log_prob(log_prob);
      }
    }
    ++returned_;
    open_.pop_front();
  }
}

void TextAssembler::Finish() {
  Release(held_.size());
  ready_.mutable_text()->append(utf8_.Finish());
  CompleteTokens();
}

bool TextAssembler::Take(v1::TextPiece* piece) {
  if (ready_.raw().empty() && ready_.token_ids().empty()) return false;
  piece->Swap(&ready_);
  ready_.Clear();
  return true;
}

}  // namespace dreamstate::server
