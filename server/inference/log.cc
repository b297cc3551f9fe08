#include "server/inference/log.h"

#include <memory>

#include "core/text/utf8.h"
#include "grpc/support/log.h"
#include "nlohmann/json.hpp"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace dreamstate::server {
namespace {

// The message as %* of a pattern: made safe, and escaped for JSON.
class SafeMessage : public spdlog::custom_flag_formatter {
 public:
  explicit SafeMessage(bool json) : json_(json) {}

  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    text::Utf8Stream utf8;
    std::string text = utf8.Push({message.payload.data(), message.payload.size()});
    text += utf8.Finish();
    if (json_) {
      text = nlohmann::json(text).dump();
    } else {
      for (char& c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
      }
    }
    out.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<SafeMessage>(json_);
  }

 private:
  const bool json_;
};

void ForwardGrpcMessage(gpr_log_func_args* args) { spdlog::debug("grpc: {}", args->message); }

}  // namespace

void ConfigureLog(const std::string& level, const std::string& format) {
  const bool json = format == "json";
  auto formatter = std::make_unique<spdlog::pattern_formatter>();
  formatter->add_flag<SafeMessage>('*', json);
  formatter->set_pattern(json ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%*})"
                              : "%Y-%m-%d %H:%M:%S.%e %L %*");
  auto logger =
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_formatter(std::move(formatter));
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::debug);
  spdlog::set_default_logger(std::move(logger));
  gpr_set_log_function(ForwardGrpcMessage);
}

}  // namespace dreamstate::server
